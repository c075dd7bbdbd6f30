"""Forgetting the partitions of a tenant that has moved back to the shared ones.

Until then stand-ins read them, as something may still come in: a webhook that an ingest with older routes published, a
dead letter that somebody sent on its way again.
"""

import time
import uuid
from collections.abc import Sequence

import structlog
from nats.js.errors import NotFoundError

from kit.bus import Bus
from kit.db import Database, Row
from kit.partitions import name_of
from kit.principal import Principal
from kit.streams import META, SEND
from svc_messaging import placements
from svc_messaging.placements import Move

log = structlog.get_logger()

EMPTY_SECONDS = 3600.0
_LOOK_SECONDS = 30.0


class Leaving:
    """Tells when a tenant's partitions have been empty for an hour, as far as this process has seen."""

    def __init__(
        self, db: Database, worker: Principal, bus: Bus, *, meta_partitions: int, send_partitions: int
    ) -> None:
        self._db = db
        self._worker = worker
        self._bus = bus
        self._meta_partitions = meta_partitions
        self.send_partitions = send_partitions
        self._empty_since: dict[Move, float] = {}
        self._looked_at = float("-inf")

    async def forget_empty(self, placed: Sequence[Row]) -> None:
        """Forget the placements of those who share again and whose partitions have been empty for long."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        back = [row for row in placed if row["isolation"] == "shared" and row["settled_at"] is not None]
        moves = [Move(row["tenant_id"], row["moved_at"]) for row in back]
        self._empty_since = {move: since for move, since in self._empty_since.items() if move in moves}
        for move in moves:
            if not await self._is_empty(move.tenant_id):
                self._empty_since.pop(move, None)
            elif now - self._empty_since.setdefault(move, now) >= EMPTY_SECONDS:
                await self._forget(move)

    async def _forget(self, move: Move) -> None:
        # Consumers stay: one that is made anew would read the journal of days again, when the tenant moves once more.
        # They go by themselves: the inbox's when the journal holds nothing any more that they have read.
        async with self._db.begin(self._worker, first=placements.CHANGE) as tx:
            if await placements.forget(tx, move):
                log.info("placement_forgotten", tenant=str(move.tenant_id))

    async def _is_empty(self, tenant_id: uuid.UUID) -> bool:
        # A part of a word is no wildcard: all subjects are looked through, some per partition.
        info = await self._bus.js.stream_info(SEND, subjects_filter="send.*.*")
        names = {name_of(number, str(tenant_id)) for number in range(self.send_partitions)}
        if any(subject.rpartition(".")[2] in names for subject in info.state.subjects or {}):
            return False
        for number in range(self._meta_partitions):
            name = name_of(number, str(tenant_id))
            try:
                consumer = await self._bus.js.consumer_info(META, f"inbox-{name}")
            except NotFoundError:
                journal = await self._bus.js.stream_info(META, subjects_filter=f"meta.{name}")
                if journal.state.subjects:
                    return False
            else:
                if consumer.num_pending or consumer.num_ack_pending:
                    return False
        return True
