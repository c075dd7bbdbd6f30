"""Parked events taken in after all: of a number as soon as somebody connects it, and whatever somebody asks for.

Meta may deliver in the very moment in which a number is being connected, and what it delivered was acknowledged.
"""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta

import structlog

from kit.db import Database, Row, Tx, as_app_error
from kit.leases import LeasePool
from kit.principal import Principal
from svc_messaging import erasures
from svc_messaging.inbox import parse, store
from svc_messaging.inbox.batch import Batch
from svc_messaging.inbox.items import Unusable
from svc_messaging.inbox.numbers import Numbers, Owner, TenantsUnavailable
from svc_messaging.inbox.people import Contended
from svc_messaging.inbox.store import REFUSALS

log = structlog.get_logger()

_POLL_SECONDS = 5.0
_BATCH_MAX = 500
_KEEP = timedelta(days=7)
"""As long as the journal keeps webhooks. What is older belongs to whoever had the number then."""

_NUMBERS = """
    SELECT DISTINCT phone_number_id FROM parked_events
    WHERE reason = 'unknown_number' AND state = 'parked' AND received_at > now() - $1::interval
    LIMIT 1000
"""
_ITEMS = """
    SELECT id, body, stream_sequence, received_at FROM parked_events
    WHERE reason = 'unknown_number' AND state = 'parked' AND received_at > now() - $1::interval
      AND phone_number_id = ANY($2)
    ORDER BY stream_sequence, id LIMIT $3
"""
_ASKED_FOR = """
    SELECT id, body, phone_number_id, stream_sequence, received_at FROM parked_events
    WHERE state = 'parked' AND retry_requested_at IS NOT NULL ORDER BY id LIMIT $1
"""
_STILL_PARKED = "UPDATE parked_events SET detail = $2, retry_requested_at = NULL WHERE id = $1"
_POISON = "UPDATE parked_events SET reason = 'poison', detail = $2 WHERE id = $1"
_SETTLED = "UPDATE parked_events SET state = 'settled', settled_at = now() WHERE id = ANY($1)"


class SecondChance:
    """Looks every few seconds; one process of all does."""

    def __init__(self, db: Database, worker: Principal, numbers: Numbers) -> None:
        self._db = db
        self._worker = worker
        self._numbers = numbers

    async def run(self, dsn: str, stop: asyncio.Event) -> None:
        await LeasePool(dsn, "inbox second chance", 1).run(self._work, stop)

    async def _work(self, _lease: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            settled = 0
            try:
                settled = await self.look() + await self.redo()
            except (Contended, TenantsUnavailable) as error:
                log.info("second_chance_waits", error=repr(error))
            except Exception as error:
                if as_app_error(error) is None and erasures.as_app_error(error) is None:
                    raise
                log.warning("second_chance_waits", error=repr(error))
            if settled < _BATCH_MAX:
                waiting = asyncio.ensure_future(stop.wait())
                await asyncio.wait([waiting], timeout=_POLL_SECONDS)
                waiting.cancel()

    async def look(self) -> int:
        """Take in what has an owner by now, the oldest first. Gives how many items that were."""
        async with self._db.begin(self._worker) as tx:
            numbers = [row["phone_number_id"] for row in await tx.fetch(_NUMBERS, _KEEP)]
        owners = await self._numbers.owners(numbers)
        if not owners:
            return 0
        async with self._db.begin(self._worker) as tx:
            rows = await tx.fetch(_ITEMS, _KEEP, list(owners), _BATCH_MAX)
        await self._take(rows, owners)
        if rows:
            log.info("second_chance_taken", items=len(rows))
        return len(rows)

    async def redo(self) -> int:
        """Take in what somebody asked for, each on its own, since each may fail for a reason of its own. Gives how many
        were tried.
        """
        async with self._db.begin(self._worker) as tx:
            rows = await tx.fetch(_ASKED_FOR, _BATCH_MAX)
        owners = await self._numbers.owners({row["phone_number_id"] for row in rows if row["phone_number_id"]})
        for row in rows:
            try:
                async with self._db.begin(self._worker) as tx:
                    await _redo(tx, row, owners)
            except REFUSALS as error:
                async with self._db.begin(self._worker) as tx:
                    await tx.execute(_STILL_PARKED, row["id"], f"{type(error).__name__}: {error}"[:2000])
        return len(rows)

    async def _take(self, rows: Sequence[Row], owners: dict[str, Owner]) -> None:
        """One transaction; what the database refuses is narrowed down to the single item."""
        batch = Batch(owners)
        for row in rows:
            for item in parse.of_change(json.loads(row["body"]), row["received_at"]):
                # It stays parked under its first reason, which now is only history.
                if not isinstance(item, Unusable):
                    batch.add(item, row["stream_sequence"])
        try:
            async with self._db.begin(self._worker) as tx:
                await store.write(tx, batch)
                await tx.execute(_SETTLED, [row["id"] for row in rows])
        except REFUSALS as error:
            if len(rows) > 1:
                for row in rows:
                    await self._take([row], owners)
                return
            async with self._db.begin(self._worker) as tx:
                await tx.execute(_POISON, rows[0]["id"], f"{type(error).__name__}: {error}"[:2000])


async def _redo(tx: Tx, row: Row, owners: dict[str, Owner]) -> None:
    """Settled when nothing of it is left, or when what is left is parked anew under another reason."""
    batch = Batch(owners)
    for item in parse.of_parked(row["body"], row["phone_number_id"], row["received_at"]):
        batch.add(item, row["stream_sequence"])
    aside = await store.write(tx, batch)
    if aside.items and not aside.new_reasons:
        await tx.execute(_STILL_PARKED, row["id"], aside.items[0].detail[:2000])
    else:
        await tx.execute(_SETTLED, [row["id"]])
