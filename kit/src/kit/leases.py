"""Leases: who is the one active worker of a partition or a job.

A lease is a session-level advisory lock of PostgreSQL, held on one dedicated connection: the server frees it the moment
the process or its connection dies, and no clock is involved. The members of a pool share its leases evenly: each
counts the living members and holds no more than its share.
"""

import asyncio
import contextlib
import math
import secrets
import zlib
from collections.abc import Awaitable, Callable

import asyncpg
import nats.errors
import structlog
from nats.js.errors import APIError

from kit.db import as_app_error

log = structlog.get_logger()

_MEMBER_KEYS = 1_000_000  # above every lease key: a lock on such a key says that a member lives
_POLL_SECONDS = 0.5
_AGAIN_SECONDS = 0.2
_DRAIN_SECONDS = 10.0
# Longer than any answer from outside may take: nothing that has begun is given up for an outage.
_LOST_DRAIN_SECONDS = 60.0

Work = Callable[[int, asyncio.Event], Awaitable[None]]
"""Works on one lease until the event is set, then returns; nothing of it may run on after that."""


class LeaseLost(ConnectionError):
    """The connection that held the leases is gone, so another process may hold them now."""


class LeasePool:
    """Runs one worker per lease that this process holds, and takes its fair share of them."""

    def __init__(self, dsn: str, name: str, count: int) -> None:
        """`name` is the pool (such as "inbox"); leases are numbered from 0 to count - 1."""
        self._dsn = dsn
        self._name = name
        self._count = count
        self._class = zlib.crc32(name.encode()) & 0x7FFF_FFFF
        self._running: dict[int, tuple[asyncio.Event, asyncio.Task[None]]] = {}
        self.is_lost = False
        """Whether another process may hold the leases, while work on them still ends here."""

    @property
    def held(self) -> list[int]:
        return sorted(self._running)

    async def run(self, work: Work, stop: asyncio.Event) -> None:
        """Hold leases and work on them until `stop` is set. When PostgreSQL or NATS goes away all work is stopped, for
        another process may hold the leases from then on; this one competes for them anew until it may work again.
        """
        while not stop.is_set():
            try:
                await self._hold(work, stop)
            except Exception as error:
                if not _is_outage(error):
                    raise
                log.warning("leases_lost", pool=self._name, error=repr(error))
                await _first_of(stop, seconds=_AGAIN_SECONDS)

    async def _hold(self, work: Work, stop: asyncio.Event) -> None:
        connection = await asyncpg.connect(
            self._dsn, timeout=5, server_settings={"application_name": f"lease {self._name}"}
        )
        self.is_lost, lost = False, asyncio.Event()

        def ended(_connection: object) -> None:
            self.is_lost = True
            lost.set()

        connection.add_termination_listener(ended)
        try:
            await self._lock(connection, _MEMBER_KEYS + secrets.randbelow(1_000_000_000))
            while not stop.is_set() and not lost.is_set():
                await self._balance(connection, work)
                await _first_of(stop, lost, *(task for _, task in self._running.values()), seconds=_POLL_SECONDS)
                self._raise_failures()
        finally:
            await self._stop_all(stop)
            await connection.close(timeout=2) if not connection.is_closed() else None
        if lost.is_set() and not stop.is_set():
            raise LeaseLost(f"The database connection that held the leases of {self._name} is gone.")

    async def _balance(self, connection: "asyncpg.Connection[asyncpg.Record]", work: Work) -> None:
        members = await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid = $1::bigint::oid AND objid >= $2::bigint::oid",
            self._class,
            _MEMBER_KEYS,
        )
        share = math.ceil(self._count / max(1, members))
        for lease in self.held[share:]:
            await self._release(connection, lease)
        for lease in range(self._count):
            if len(self._running) >= share:
                break
            if lease not in self._running and await self._lock(connection, lease):
                self._start(lease, work)

    def _start(self, lease: int, work: Work) -> None:
        stop = asyncio.Event()
        task = asyncio.ensure_future(work(lease, stop))
        self._running[lease] = (stop, task)
        log.info("lease_taken", pool=self._name, lease=lease)

    async def _release(self, connection: "asyncpg.Connection[asyncpg.Record]", lease: int) -> None:
        stop, task = self._running.pop(lease)
        stop.set()
        await task
        await connection.execute("SELECT pg_advisory_unlock($1, $2)", self._class, lease)
        log.info("lease_released", pool=self._name, lease=lease)

    async def _lock(self, connection: "asyncpg.Connection[asyncpg.Record]", key: int) -> bool:
        return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", self._class, key))

    def _raise_failures(self) -> None:
        for _, task in self._running.values():
            if task.done():
                task.result()
                raise AssertionError("a lease's worker returned before it was told to")

    async def _stop_all(self, stop: asyncio.Event) -> None:
        """Let the workers end what they have begun; a process that is to stop has less time for that."""
        tasks = {task for _, task in self._running.values()}
        for told, _ in self._running.values():
            told.set()
        pending, left = tasks, _LOST_DRAIN_SECONDS
        while pending and left > 0:
            left = min(left, _DRAIN_SECONDS) if stop.is_set() else left
            began = asyncio.get_running_loop().time()
            _, pending = await asyncio.wait(pending, timeout=min(left, _POLL_SECONDS))
            left -= asyncio.get_running_loop().time() - began
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()


def _is_outage(error: Exception) -> bool:
    """Whether PostgreSQL or NATS is away or just coming back: work begins anew when they are there."""
    if isinstance(error, ExceptionGroup):
        return all(_is_outage(each) for each in error.exceptions)
    if isinstance(error, APIError):
        return (error.code or 0) >= 500
    return as_app_error(error) is not None or isinstance(error, nats.errors.Error)


async def _first_of(*things: "asyncio.Event | asyncio.Task[None]", seconds: float) -> None:
    """Wait until an event is set or a task ends, at most so many seconds."""
    waits = [thing if isinstance(thing, asyncio.Task) else asyncio.ensure_future(thing.wait()) for thing in things]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for thing, wait in zip(things, waits, strict=True):
        if isinstance(thing, asyncio.Event):
            wait.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await wait
