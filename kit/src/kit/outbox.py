"""The outbox: a change and what it publishes leave in one transaction.

`add` writes rows inside the business transaction; the relay publishes them in order and deletes each after its
acknowledgement. A crash between the two publishes a row again: the message id makes the stream store it once, and every
consumer is idempotent anyway.
"""

import asyncio
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg
import nats.errors
import structlog
from nats.js.api import Header
from nats.js.errors import APIError, NoStreamResponseError
from prometheus_client import Counter, Gauge

from kit.batch_publish import publish_batch
from kit.bus import Bus
from kit.db import Tx, wake_after_commit
from kit.ids import new_id
from kit.leases import LeasePool

log = structlog.get_logger()

_CHANNEL = "outbox"
_BATCH_ROWS = 500
# A batch takes about four disk flushes.
_TOGETHER_MIN = 4
_TOGETHER_BYTES_MAX = 4 * 1024 * 1024
_POLL_SECONDS = 1.0
# The relay only deletes. A deletion that a power cut takes back is a row that is published again, as after any crash,
# so nobody has to wait for the disk.
_RELAY_SETTINGS = {"application_name": "outbox relay", "synchronous_commit": "off"}

_published = Counter("aerostic_outbox_published_total", "Outbox rows published")
_oldest = Gauge("aerostic_outbox_oldest_seconds", "Age of the oldest row that waits in the outbox")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish after the transaction."""

    subject: str
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)
    id: uuid.UUID = field(default_factory=new_id)
    """Deduplicates the publish; the stream stores one message per id within two minutes."""


async def add(tx: Tx, messages: Sequence[Outgoing]) -> None:
    """Write messages into the outbox; the relay is woken when the transaction has committed."""
    if not messages:
        return
    await tx.execute(
        "INSERT INTO outbox (message_id, subject, headers, data)"
        " SELECT * FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::bytea[])",
        [message.id for message in messages],
        [message.subject for message in messages],
        [json.dumps(message.headers) for message in messages],
        [message.data for message in messages],
    )
    wake_after_commit(tx, _CHANNEL)


class Relay:
    """Publishes the outbox of one database. Any number of processes may run one; a lease lets one work."""

    def __init__(self, dsn: str, bus: Bus) -> None:
        self._dsn = dsn
        self._bus = bus

    async def run(self, stop: asyncio.Event) -> None:
        await LeasePool(self._dsn, "outbox", 1).run(self._work, stop)

    async def _work(self, _lease: int, stop: asyncio.Event) -> None:
        wake = asyncio.Event()
        connection = await asyncpg.connect(self._dsn, timeout=5, server_settings=_RELAY_SETTINGS)
        try:
            await connection.add_listener(_CHANNEL, lambda *_: wake.set())
            while not stop.is_set():
                wake.clear()
                if await self._publish_batch(connection):
                    continue
                stopping = asyncio.ensure_future(stop.wait())
                waking = asyncio.ensure_future(wake.wait())
                await asyncio.wait([stopping, waking], timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                waking.cancel()
        finally:
            await connection.close(timeout=2)

    async def _publish_batch(self, connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
        """Publish the oldest rows in order. False when nothing is left to do now."""
        rows = await connection.fetch(
            "SELECT id, message_id, subject, headers, data, extract(epoch FROM now() - created_at) AS age"
            f" FROM outbox ORDER BY id LIMIT {_BATCH_ROWS}"
        )
        _oldest.set(float(rows[0]["age"]) if rows else 0)
        if not rows:
            return False
        groups = list(_groups(rows))
        published = await asyncio.gather(*(self._publish_group(group) for group in groups))
        outcomes = [outcome for group in published for outcome in group]
        ids = [row["id"] for group in groups for row in group]
        done = [row_id for row_id, outcome in zip(ids, outcomes, strict=True) if not isinstance(outcome, Exception)]
        await connection.execute("DELETE FROM outbox WHERE id = ANY($1)", done)
        _published.inc(len(done))
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, (nats.errors.Error, APIError, TimeoutError, ConnectionError)):
                raise failure
        if failures:
            log.warning("outbox_publish_failed", rows=len(failures), error=repr(failures[0]))
            await asyncio.sleep(_POLL_SECONDS)
        return len(done) == _BATCH_ROWS or bool(failures)

    async def _publish_group(self, rows: Sequence[asyncpg.Record]) -> Sequence[object]:
        """What became of each row: an exception where it was not published."""
        if len(rows) >= _TOGETHER_MIN:
            messages = [_Sent(row["subject"], row["data"], _headers(row)) for row in rows]
            try:
                await self._bus.unless_broken(publish_batch(self._bus.client, messages))
            except APIError as error:
                # The stream has one of them already, after a crash; one by one it tells which.
                log.info("outbox_batch_refused", rows=len(rows), error=repr(error))
            except (nats.errors.Error, NoStreamResponseError, TimeoutError, ConnectionError) as error:
                return [error] * len(rows)
            else:
                return [None] * len(rows)
        # All are written to one connection in order before the first answer comes back.
        return await asyncio.gather(*(self._publish(row) for row in rows), return_exceptions=True)

    async def _publish(self, row: asyncpg.Record) -> None:
        headers = json.loads(row["headers"])
        await self._bus.publish(row["subject"], row["data"], headers=headers, key=str(row["message_id"]))


class _Sent(NamedTuple):
    """A row as it travels in a batch."""

    subject: str
    data: bytes
    headers: dict[str, str]


def _headers(row: asyncpg.Record) -> dict[str, str]:
    return {**json.loads(row["headers"]), Header.MSG_ID.value: str(row["message_id"])}


def _groups(rows: Sequence[asyncpg.Record]) -> Iterator[list[asyncpg.Record]]:
    """Rows of one stream, which the first word of a subject names, in order and bounded in bytes."""
    by_stream: dict[str, list[asyncpg.Record]] = {}
    for row in rows:
        by_stream.setdefault(row["subject"].partition(".")[0], []).append(row)
    for whole in by_stream.values():
        group: list[asyncpg.Record] = []
        size = 0
        for row in whole:
            size += len(row["data"])
            if group and size > _TOGETHER_BYTES_MAX:
                yield group
                group, size = [], len(row["data"])
            group.append(row)
        yield group
