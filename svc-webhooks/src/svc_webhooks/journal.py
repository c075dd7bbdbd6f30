"""The journal: verified bodies become durable together (ADR 0003).

Each partition has one publish in flight. Whatever arrives meanwhile goes into its next envelope, so envelopes grow with
the load and a lone webhook waits for nobody. A body is acknowledged when its envelope is on disk.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import nats.errors
import structlog
from nats.js.errors import APIError, NoStreamResponseError
from prometheus_client import Counter, Gauge, Histogram

from kit import envelopes
from kit.envelopes import Entry
from kit.metrics import SECONDS

log = structlog.get_logger()

BYTES_MAX = 512 * 1024
BODIES_MAX = 500
GATHER_SECONDS = 0.004
"""From one envelope of a partition to the next: with a fast disk a moderate load would otherwise make an envelope of
every few webhooks, each of which costs as much as a full one. A lone webhook waits for nothing.
"""
BODIES_ENOUGH = 48
"""So many wait no longer for more: each one's share of an envelope's cost is small by then, and clients that wait for
their answers send nothing meanwhile.
"""
PUBLISH_SECONDS = 5.0
WAITING_BYTES_MAX = 256 * 1024 * 1024
"""What may wait in memory: many small bodies or a few dozen of Meta's largest."""

IDLE_PARTITIONS_MAX = 4096
"""Partitions come and go with the tenants that have their own; so many stay in memory while nothing waits in them."""

_bodies = Counter("aerostic_journal_bodies_total", "Webhook bodies made durable")
_envelopes = Counter("aerostic_journal_envelopes_total", "Envelopes published, by outcome", ["outcome"])
_seconds = Histogram(
    "aerostic_journal_publish_seconds", "Publish of an envelope to its acknowledgement", buckets=SECONDS
)
_waiting = Gauge("aerostic_journal_waiting", "Bodies that wait for their acknowledgement")


class Publisher(Protocol):
    """What the journal needs of the bus."""

    async def publish(self, subject: str, data: bytes) -> int: ...


class NotDurable(Exception):
    """The body is not on disk, or nobody knows: whoever sent it must send it again."""


Settled = Callable[[NotDurable | None], None]
"""Hears, once, that a body is on disk, or why not."""


class Journal:
    """Makes bodies durable. One per process; only its event loop uses it."""

    def __init__(self, bus: Publisher, *, waiting_max: int) -> None:
        self._bus = bus
        self._partitions: dict[str, _Partition] = {}
        self._waiting_max = waiting_max
        self.waiting = 0
        self._waiting_bytes = 0
        _waiting.set_function(lambda: self.waiting)

    def append(self, parts: list[tuple[str, bytes]], *, traceparent: str, settled: Settled) -> None:
        """Tells `settled` when all parts, each with its partition's name, are on disk, or the first reason why one is
        not; at once when too many bodies wait already.
        """
        size = sum(len(body) for _, body in parts)
        if self.waiting >= self._waiting_max or self._waiting_bytes + size > WAITING_BYTES_MAX:
            settled(NotDurable("too many webhooks wait"))
            return
        received_at_ms = time.time_ns() // 1_000_000
        self.waiting += 1
        self._waiting_bytes += size
        body_of_parts = _Body(self, len(parts), size, settled)
        for name, body in parts:
            partition = self._partitions.get(name) or self._add_partition(name)
            partition.add(Entry(body, received_at_ms, traceparent), body_of_parts)

    def _add_partition(self, name: str) -> "_Partition":
        if len(self._partitions) >= IDLE_PARTITIONS_MAX:
            self._partitions = {each: kept for each, kept in self._partitions.items() if not kept.is_idle}
        partition = self._partitions[name] = _Partition(self, f"meta.{name}")
        return partition

    def release(self, size: int) -> None:
        """A body of so many bytes waits no more."""
        self.waiting -= 1
        self._waiting_bytes -= size

    async def publish(self, subject: str, entries: list[Entry]) -> None:
        """One envelope. Raises NotDurable."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._bus.publish(subject, envelopes.encode(entries))
        except (nats.errors.Error, APIError, NoStreamResponseError, TimeoutError, ConnectionError) as error:
            _envelopes.labels("failed").inc()
            log.warning("envelope_not_durable", subject=subject, bodies=len(entries), error=repr(error))
            raise NotDurable(type(error).__name__) from error
        _envelopes.labels("durable").inc()
        _bodies.inc(len(entries))
        _seconds.observe(time.perf_counter() - started)


class _Body:
    """A body whose parts are on their way."""

    __slots__ = ("_error", "_journal", "_parts_left", "_settled", "_size")

    def __init__(self, journal: Journal, parts: int, size: int, settled: Settled) -> None:
        self._journal = journal
        self._parts_left = parts
        self._size = size
        self._settled = settled
        self._error: NotDurable | None = None

    def settle_part(self, error: NotDurable | None) -> None:
        self._error = self._error or error
        self._parts_left -= 1
        if not self._parts_left:
            self._journal.release(self._size)
            self._settled(self._error)


_Waiting = tuple[Entry, _Body]


class _Partition:
    """One lane of the journal: entries wait here while the envelope before them is on its way. After an envelope that
    was not acknowledged, one entry at a time finds out whether the next is, and the others are refused at once.
    """

    def __init__(self, journal: Journal, subject: str) -> None:
        self._journal = journal
        self._subject = subject
        self._entries: deque[_Waiting] = deque()
        self._publishing: asyncio.Task[None] | None = None
        self._gathering: asyncio.Future[None] | None = None
        """Over when there is enough for an envelope, or time for one."""
        self._is_failing = False

    @property
    def is_idle(self) -> bool:
        return self._publishing is None

    def add(self, entry: Entry, body: _Body) -> None:
        if self._publishing is None:
            self._publishing = asyncio.get_running_loop().create_task(self._publish_all())
        elif self._is_failing:
            body.settle_part(NotDurable("the last envelope was not acknowledged"))
            return
        self._entries.append((entry, body))
        if self._gathering is not None and len(self._entries) >= BODIES_ENOUGH:
            _end(self._gathering)

    async def _publish_all(self) -> None:
        batch: list[_Waiting] = []
        try:
            while batch := self._next():
                began = time.perf_counter()
                try:
                    await self._journal.publish(self._subject, [entry for entry, _ in batch])
                except NotDurable as error:
                    self._is_failing = True
                    _settle([*batch, *self._entries], error)
                    self._entries.clear()
                else:
                    self._is_failing = False
                    _settle(batch, None)
                    if len(self._entries) < BODIES_ENOUGH:
                        await self._gather(began + GATHER_SECONDS - time.perf_counter())
        except BaseException as error:
            # Nobody publishes here any more: whoever waits is told, and the failure shows itself.
            _settle([*batch, *self._entries], NotDurable(type(error).__name__))
            self._entries.clear()
            raise
        finally:
            self._publishing = None

    async def _gather(self, seconds: float) -> None:
        """Wait until there is enough for an envelope, or for so long."""
        if seconds <= 0:
            return
        loop = asyncio.get_running_loop()
        self._gathering = loop.create_future()
        timer = loop.call_later(seconds, _end, self._gathering)
        try:
            await self._gathering
        finally:
            timer.cancel()
            self._gathering = None

    def _next(self) -> list[_Waiting]:
        """The next envelope's entries: bounded in bytes and number, but at least one."""
        batch: list[_Waiting] = []
        size = 0
        while self._entries and len(batch) < BODIES_MAX:
            size += len(self._entries[0][0].body)
            if batch and size > BYTES_MAX:
                break
            batch.append(self._entries.popleft())
        return batch


def _end(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)


def _settle(batch: list[_Waiting], error: NotDurable | None) -> None:
    for _, body in batch:
        body.settle_part(error)
