"""Counting usage from EVENTS, each event exactly once (ADR 0024).

One process has the lease. It reads the stream in order and writes the counts of a batch together with the place behind
it, in one transaction that only moves the place from where this process found it: whatever dies, is delivered again or
overlaps, a message is behind the place or before it. What the relay of an outbox publishes a second time, after a
crash, has the id of the first time, and those of the newest messages are remembered.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import structlog
from nats.js.api import Header, StreamInfo
from prometheus_client import Counter, Gauge

from kit import streams
from kit.bus import Bus, Msg
from kit.db import Database
from kit.events import EventMalformed
from kit.leases import LeasePool
from kit.principal import Principal
from kit.tail import OUTAGES, Interrupted, Tail, pause
from svc_tenants.usage_events import Tally

log = structlog.get_logger()

_WORKER = Principal.service("tenants-usage")
_BATCH_MAX = 500
# Usage may be a moment old: what arrives meanwhile shares a transaction.
_GATHER_SECONDS = 1.0
# A relay may repeat the 500 rows of the batch in which it died, and those whose deletion PostgreSQL lost in a crash: of
# 0.6 seconds at most, some 3,000.
_REMEMBERED = 10_000
_STOP_SECONDS = 0.5

_behind = Gauge("aerostic_usage_behind_messages", "Messages of EVENTS whose usage is not counted yet")
_missed = Counter("aerostic_usage_missed_messages_total", "Messages of EVENTS that were gone before they were counted")


class Overtaken(Exception):
    """Another process has counted since: this one begins anew behind it."""


class Meter:
    """Counts while `run` does. Any number of processes may run one; a lease lets one count."""

    def __init__(self, db: Database, bus: Bus, dsn: str) -> None:
        self._db = db
        self._bus = bus
        self._dsn = dsn
        self._recent: dict[str, None] = {}
        self._remembered_up_to = -1

    async def run(self, stop: asyncio.Event) -> None:
        """NATS or PostgreSQL being away only delays."""
        await LeasePool(self._dsn, "usage", 1).run(self._work, stop)

    async def _work(self, _lease: int, stop: asyncio.Event) -> None:
        counting = asyncio.create_task(self._count())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([counting, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            while not counting.done():
                # A batch that is broken off is rolled back as a whole. wait_for, which the NATS client uses, loses a
                # cancellation that comes together with its answer.
                counting.cancel()
                await asyncio.wait([counting], timeout=_STOP_SECONDS)
        if not counting.cancelled():
            counting.result()

    async def _count(self) -> None:
        while True:
            try:
                await self._follow()
            except (Interrupted, Overtaken, *OUTAGES) as error:
                log.warning("usage_interrupted", error=str(error) or type(error).__name__)
            await pause()

    async def _follow(self) -> None:
        stream = await self._bus.js.stream_info(streams.EVENTS)
        position = await self._begin(stream)
        if position != self._remembered_up_to:
            self._recent.clear()
        remembered = position if self._recent else max(0, position - _REMEMBERED)
        async for batch in Tail(self._bus, "usage", last=remembered).batches(_BATCH_MAX):
            position = await self._take(batch, position, stream.created)
            if len(batch) < _BATCH_MAX:
                await asyncio.sleep(_GATHER_SECONDS)

    async def _begin(self, stream: StreamInfo) -> int:
        """The place to count from in the stream as it is now."""
        async with self._db.begin(_WORKER) as tx:
            found = await tx.fetchrow("SELECT sequence, stream_created_at FROM usage_position")
        assert found is not None, "the migration has made the row"
        known, state = found["sequence"], stream.state
        if found["stream_created_at"] not in (None, stream.created):
            log.warning("usage_stream_made_anew", counted=known)
            return await self._move(known, 0, stream.created)
        if state.last_seq < known:
            # Restored from a backup: what it holds is counted, what comes now is new.
            log.warning("usage_stream_went_back", counted=known, last=state.last_seq)
            return await self._move(known, state.last_seq, stream.created)
        if found["stream_created_at"] is not None and state.first_seq > known + 1:
            lost = state.first_seq - known - 1
            _missed.inc(lost)
            log.error("usage_events_missed", messages=lost, counted=known, first_kept=state.first_seq)
            return await self._move(known, state.first_seq - 1, stream.created)
        return int(known)

    async def _take(self, batch: Sequence[Msg], position: int, stream_created: datetime | None) -> int:
        """Count what is beyond the position; gives the new one. Raises Overtaken."""
        tally = Tally()
        # Until the batch is counted its ids must not stand for counted messages.
        self._remembered_up_to = -1
        for message in batch:
            if not self._is_repeated(message) and message.metadata.sequence.stream > position:
                await self._add(tally, message)
        last = batch[-1].metadata
        _behind.set(last.num_pending or 0)
        if last.sequence.stream > position:
            position = await self._move(position, last.sequence.stream, stream_created, tally)
        self._remembered_up_to = position
        return position

    async def _add(self, tally: Tally, message: Msg) -> None:
        try:
            tally.add(message.subject, message.headers, message.data)
        except EventMalformed as error:
            await self._bus.bury(message, consumer="usage", reason="malformed", detail=str(error))

    def _is_repeated(self, message: Msg) -> bool:
        """Whether the message is in the stream twice; remembers it if not."""
        name = (message.headers or {}).get(Header.MSG_ID.value)
        if name is None:
            return False
        if name in self._recent:
            return True
        while len(self._recent) >= _REMEMBERED:
            del self._recent[next(iter(self._recent))]
        self._recent[name] = None
        return False

    async def _move(
        self, expected: int, position: int, stream_created: datetime | None, tally: Tally | None = None
    ) -> int:
        columns = (tally or Tally()).columns()
        async with self._db.begin(_WORKER) as tx:
            is_moved = await tx.fetchval(
                "SELECT count_usage($1, $2, $3, $4, $5, $6, $7, $8, $9)", expected, position, stream_created, *columns
            )
        if not is_moved:
            raise Overtaken(f"The position is not {expected} any more.")
        return position
