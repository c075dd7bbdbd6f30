"""Leases: who is the one active worker of a partition or a job.

A lease is a session-level advisory lock of PostgreSQL, held on one dedicated connection: the server frees it the moment
the process or its connection dies, and no clock is involved. The members of a pool share its leases evenly: each
counts the living members and holds no more than its share. Where a pool has no members, others may stand in.
"""

import asyncio
import contextlib
import math
import secrets
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple, TypeAlias

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
ScopedWork = Callable[[str, int, asyncio.Event], Awaitable[None]]
"""As Work, on a lease of one scope."""

_Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_Lease = tuple[str, int]
"""Scope and number."""


class LeaseLost(ConnectionError):
    """The connection that held the leases is gone, so another process may hold them now."""


class _Running(NamedTuple):
    told: asyncio.Event
    """Set when the work is to end; the lease is held until it has."""
    task: asyncio.Task[None]


class _Holder(ABC):
    """Holds its fair share of the leases that are open to it, and runs one worker for each."""

    _gives_way = False
    """Whether the leases of a pool are closed to it while a member of that pool lives."""

    def __init__(self, dsn: str, name: str, count: int) -> None:
        self._dsn = dsn
        self._name = name
        self._count = count
        self._members = _class_of(name)
        """Where a lock says that a member lives which shares the leases with this one."""
        self._running: dict[_Lease, _Running] = {}
        self.is_lost = False
        """Whether another process may hold the leases, while work on them still ends here."""
        self.held_at = -math.inf
        """The latest moment, by time.monotonic(), at which all that are worked on were held for certain: the connection
        that holds them has answered a question asked then. Whoever holds one next takes it later.
        """

    @abstractmethod
    def _pools(self) -> dict[str, int]:
        """The class of the locks that are leases, by scope."""

    async def _run(self, work: ScopedWork, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._hold(work, stop)
            except Exception as error:
                if not _is_outage(error):
                    raise
                log.warning("leases_lost", pool=self._name, error=repr(error))
                await _first_of(stop, seconds=_AGAIN_SECONDS)

    async def _hold(self, work: ScopedWork, stop: asyncio.Event) -> None:
        connection = await asyncpg.connect(
            self._dsn, timeout=5, server_settings={"application_name": f"lease {self._name}"}
        )
        self.is_lost, lost = False, asyncio.Event()

        def ended(_connection: object) -> None:
            self.is_lost = True
            lost.set()

        connection.add_termination_listener(ended)
        try:
            await _lock(connection, self._members, _MEMBER_KEYS + secrets.randbelow(1_000_000_000))
            while not stop.is_set() and not lost.is_set():
                await self._ask(connection, work)
                await _first_of(stop, lost, *(task for _, task in self._running.values()), seconds=_POLL_SECONDS)
                self._raise_failures()
        finally:
            await self._stop_all(stop)
            await connection.close(timeout=2) if not connection.is_closed() else None
        if lost.is_set() and not stop.is_set():
            raise LeaseLost(f"The database connection that held the leases of {self._name} is gone.")

    async def _ask(self, connection: _Connection, work: ScopedWork) -> None:
        try:
            await self._balance(connection, work)
        except Exception:
            # A server that ends a connection says so before it closes it, and frees the leases in between.
            self.is_lost = True
            raise

    async def _balance(self, connection: _Connection, work: ScopedWork) -> None:
        pools = self._pools()
        await self._free_ended(connection)
        asked_at = time.monotonic()
        locked = await _locked(connection, {self._members, *pools.values()})
        self.held_at = asked_at
        open_pools = {
            scope: locked[class_]
            for scope, class_ in pools.items()
            if not (self._gives_way and any(map(_is_member, locked[class_])))
        }
        members = sum(map(_is_member, locked[self._members]))
        share = math.ceil(len(open_pools) * self._count / max(1, members))
        kept = 0
        for lease in sorted(self._running):
            if not self._running[lease].told.is_set():
                if kept == share or lease[0] not in open_pools:
                    self._running[lease].told.set()
                else:
                    kept += 1
        for scope, taken in open_pools.items():
            for number in range(self._count):
                if kept == share:
                    return
                if number not in taken and await _lock(connection, pools[scope], number):
                    self._start((scope, number), work)
                    kept += 1

    def _start(self, lease: _Lease, work: ScopedWork) -> None:
        told = asyncio.Event()
        self._running[lease] = _Running(told, asyncio.ensure_future(work(*lease, told)))
        log.info("lease_taken", pool=f"{self._name} {lease[0]}".rstrip(), lease=lease[1])

    async def _free_ended(self, connection: _Connection) -> None:
        """Let go of the leases whose work has ended as it was told to. Nobody waits for one that takes its time."""
        for lease, (told, task) in list(self._running.items()):
            if told.is_set() and task.done():
                pool = f"{self._name} {lease[0]}".rstrip()
                await connection.execute("SELECT pg_advisory_unlock($1, $2)", _class_of(pool), lease[1])
                del self._running[lease]
                log.info("lease_released", pool=pool, lease=lease[1])

    def _raise_failures(self) -> None:
        for told, task in self._running.values():
            if task.done():
                task.result()
                if not told.is_set():
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


class LeasePool(_Holder):
    """Runs one worker per lease that this process holds, and takes its fair share of them."""

    def __init__(self, dsn: str, name: str, count: int) -> None:
        """`name` is the pool (such as "inbox"); leases are numbered from 0 to count - 1."""
        super().__init__(dsn, name, count)

    @property
    def held(self) -> list[int]:
        return sorted(number for _, number in self._running)

    async def run(self, work: Work, stop: asyncio.Event) -> None:
        """Hold leases and work on them until `stop` is set. When PostgreSQL or NATS goes away all work is stopped, for
        another process may hold the leases from then on; this one competes for them anew until it may work again.
        """
        await self._run(lambda _scope, lease, told: work(lease, told), stop)

    def _pools(self) -> dict[str, int]:
        return {"": self._members}


class StandIns(_Holder):
    """Works on the leases of other pools, `<name> <scope>` each, while no member of such a pool lives.

    As soon as a member appears, the work on its pool ends and its leases are left to it. The processes that stand in
    share evenly what is open to them, over one connection each, however many scopes there are.
    """

    _gives_way = True

    def __init__(self, dsn: str, name: str, count: int, scopes: Callable[[], Collection[str]]) -> None:
        """`scopes` is asked again and again for those that there are now; the pool of each has `count` leases."""
        super().__init__(dsn, name, count)
        self._members = _class_of(f"{name} stand-ins")
        self._scopes = scopes

    @property
    def held(self) -> list[_Lease]:
        return sorted(self._running)

    async def run(self, work: ScopedWork, stop: asyncio.Event) -> None:
        """As LeasePool.run."""
        await self._run(work, stop)

    def _pools(self) -> dict[str, int]:
        return {scope: _class_of(f"{self._name} {scope}") for scope in sorted(self._scopes())}


def _class_of(pool: str) -> int:
    return zlib.crc32(pool.encode()) & 0x7FFF_FFFF


def _is_member(key: int) -> bool:
    return key >= _MEMBER_KEYS


async def _locked(connection: _Connection, classes: Collection[int]) -> dict[int, set[int]]:
    """The keys that anybody has locked, by class."""
    rows = await connection.fetch(
        "SELECT classid::bigint, objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND classid = ANY ($1::bigint[]::oid[])",
        list(classes),
    )
    found: dict[int, set[int]] = {class_: set() for class_ in classes}
    for row in rows:
        found[row["classid"]].add(row["objid"])
    return found


async def _lock(connection: _Connection, class_: int, key: int) -> bool:
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", class_, key))


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
