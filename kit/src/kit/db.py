"""PostgreSQL as the services use it: asyncpg, one visible transaction per call, the caller's tenant set in it.

Row-level security reads the tenant from the transaction, so a statement that forgets its WHERE clause still sees one
tenant only. SQL stands in the aggregate modules (ADR 0007).
"""

import asyncio
import contextvars
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar, cast

import asyncpg
import structlog

from kit.errors import AppError, Overloaded, Unavailable
from kit.principal import Principal

Tx: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
"""A connection inside a transaction. Only `Database` begins, commits and rolls back."""

Row = asyncpg.Record

T = TypeVar("T")

log = structlog.get_logger()

# The server is away, starting or out of places: the caller may try again.
_AWAY = (
    asyncpg.exceptions.PostgresConnectionError,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.exceptions.TooManyConnectionsError,
    asyncpg.exceptions.AdminShutdownError,
    asyncpg.exceptions.CrashShutdownError,
    asyncpg.exceptions.InterfaceError,
    # A statement on a connection that the dying server has said its last word on.
    asyncpg.exceptions.InternalClientError,
    asyncpg.exceptions.SerializationError,
    asyncpg.exceptions.DeadlockDetectedError,
    asyncpg.exceptions.DiskFullError,
    ConnectionError,
)
_FREE_SECONDS = 5.0
_TENANT_SHARE = 0.7
"""Of the connections, at most, for one tenant's calls: however many it makes, and even if they wait for each other's
locks, there are some for the others.
"""
_START_SECONDS = 60.0
_START_PAUSE_SECONDS = 0.2
_SLOW_SECONDS = 0.2


class _Connection(asyncpg.Connection):
    """Remembers whom to wake when its transaction is committed."""

    __slots__ = ("to_wake",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.to_wake: set[str] = set()


def wake_after_commit(tx: Tx, channel: str) -> None:
    """Notify a channel once the transaction is committed. A wake-up is lost with the process, so whoever is woken also
    looks by himself now and then.

    A NOTIFY inside the transaction would hold a lock over its commit that all transactions with one share, so that
    each would wait for the disk alone instead of together.
    """
    cast("_Connection", tx).to_wake.add(channel)


class Database:
    """A bounded pool of connections of one database role."""

    def __init__(self, pool: "asyncpg.pool.Pool[asyncpg.Record]") -> None:
        self._pool = pool
        self._turns_each = max(1, int(pool.get_max_size() * _TENANT_SHARE))
        self._turns: weakref.WeakValueDictionary[uuid.UUID, asyncio.Semaphore] = weakref.WeakValueDictionary()
        self._to_wake: set[str] = set()
        self._waking: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls, dsn: str, *, name: str, connections: int = 10, statement_timeout_seconds: float = 30
    ) -> "Database":
        """Open a pool; a server that is away or starting is waited for, a minute at most. `name` shows in
        pg_stat_activity; a statement over its time-out is cancelled by the server.
        """
        pool = await patiently(
            lambda: _open(dsn, name, connections=connections, statement_timeout_seconds=statement_timeout_seconds)
        )
        return cls(pool)

    @asynccontextmanager
    async def begin(self, principal: Principal, *, first: str = "") -> AsyncIterator[Tx]:
        """One transaction as this caller: commits at the end, rolls back when an exception leaves it.

        BEGIN and the caller's identity travel in one round trip, and so does `first`: SQL without parameters that goes
        before everything else, such as a lock. A principal without tenant sees no tenant's row: the policies raise
        instead of matching an empty tenant.

        Raises Overloaded where too many transactions of the caller's tenant run already, and TimeoutError where no
        connection is free, after some seconds.
        """
        async with self._turn_of(principal.tenant_id), self._connection() as connection:
            to_wake = cast("_Connection", connection).to_wake
            to_wake.clear()
            began = time.perf_counter()
            await connection.execute(f"{_begin_as(principal)}; {first}" if first else _begin_as(principal))
            try:
                yield connection
            except BaseException:
                if not connection.is_closed():
                    await connection.execute(_end_with("ROLLBACK", began))
                raise
            await connection.execute(_end_with("COMMIT", began))
            if to_wake:
                self._wake(to_wake)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """One value outside any tenant, for health and schema checks."""
        return await self._pool.fetchval(query, *args)

    async def close(self) -> None:
        try:
            if self._waking is not None:
                await self._waking
        finally:
            await self._pool.close()

    @property
    def free_connections(self) -> int:
        return self._pool.get_idle_size() + self._pool.get_max_size() - self._pool.get_size()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Tx]:
        # The pool's own time-out makes a task for it.
        async with asyncio.timeout(_FREE_SECONDS):
            connection = await self._pool.acquire()
        try:
            yield connection
        finally:
            await self._pool.release(connection)

    @asynccontextmanager
    async def _turn_of(self, tenant_id: uuid.UUID | None) -> AsyncIterator[None]:
        """Ours, in the order of asking. Callers without a tenant have no turns."""
        if tenant_id is None:
            yield
            return
        turns = self._turns.get(tenant_id)
        if turns is None:
            turns = self._turns[tenant_id] = asyncio.Semaphore(self._turns_each)
        try:
            async with asyncio.timeout(_FREE_SECONDS):
                await turns.acquire()
        except TimeoutError as error:
            message = "Too many calls of this workspace run at once; try again shortly."
            raise Overloaded(message, retry_after=1) from error
        try:
            yield
        finally:
            turns.release()

    def _wake(self, channels: set[str]) -> None:
        self._to_wake |= channels
        if self._waking is None or self._waking.done():
            # In a context of its own: it serves all that commit while it is under way.
            self._waking = asyncio.create_task(self._notify(), context=contextvars.Context())

    async def _notify(self) -> None:
        """Notify until nobody is left to be woken; what is committed meanwhile shares the next one."""
        while self._to_wake:
            statements = "; ".join(f"NOTIFY {channel}" for channel in self._to_wake)
            self._to_wake.clear()
            try:
                # Nothing is changed, so nobody has to wait for the disk.
                await self._pool.execute(
                    f"SELECT set_config('synchronous_commit', 'off', true); {statements}", timeout=5
                )
            except (*_AWAY, asyncpg.PostgresError, TimeoutError) as error:
                # Whatever the server has against it: a wake-up may be lost, and those who come later need theirs.
                log.warning("database_wake_up_lost", error=repr(error))


async def patiently(connect: Callable[[], Awaitable[T]], *, seconds: float = _START_SECONDS) -> T:
    """What `connect` gives, tried again while the server is away. A process that ended instead would be started again
    later and later by its supervisor, and miss the moment in which the server is back.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await connect()
        except (*_AWAY, TimeoutError) as error:
            if time.monotonic() > deadline:
                raise
            log.warning("database_awaited", error=repr(error))
            await asyncio.sleep(_START_PAUSE_SECONDS)


def as_app_error(error: BaseException) -> AppError | None:
    """What a database failure means to a caller; None where it is a bug of ours."""
    if isinstance(error, Overloaded):
        return error
    if isinstance(error, (*_AWAY, TimeoutError)):
        return Unavailable("The database does not answer; try again shortly.")
    return None


def violated(error: asyncpg.exceptions.IntegrityConstraintViolationError, constraint: str) -> bool:
    """Whether an integrity error is about this named constraint."""
    return bool(getattr(error, "constraint_name", None) == constraint)


def _begin_as(principal: Principal) -> str:
    # UUIDs hold hexadecimal digits and hyphens only, so they may stand in the text: the simple protocol, which
    # carries several statements in one round trip, takes no parameters.
    settings = {"app.tenant_id": principal.tenant_id, "app.user_id": principal.user_id}
    calls = ", ".join(f"set_config('{name}', '{value or ''}', true)" for name, value in settings.items())
    return f"BEGIN; SELECT {calls}"


def _end_with(verb: str, began: float) -> str:
    """The end of a transaction. A slow one may run on plans made when its tables were small or empty, which PostgreSQL
    keeps for a prepared statement until the tables are analysed again: they are thrown away, and made anew.
    """
    return f"{verb}; DISCARD PLANS" if time.perf_counter() - began > _SLOW_SECONDS else verb


async def _open(
    dsn: str, name: str, *, connections: int, statement_timeout_seconds: float
) -> "asyncpg.pool.Pool[asyncpg.Record]":
    return await asyncpg.create_pool(
        dsn,
        min_size=min(2, connections),
        max_size=connections,
        command_timeout=statement_timeout_seconds + 5,
        timeout=5,
        # All our settings are local to a transaction, so a returned connection needs no cleaning round trip.
        reset=_keep_as_is,
        connection_class=_Connection,
        server_settings={
            "application_name": name,
            "statement_timeout": str(int(statement_timeout_seconds * 1000)),
            "idle_in_transaction_session_timeout": "60000",
            "timezone": "UTC",
            # Joins run in the order in which they are written, from what is asked for to what belongs to it. Before a
            # table's first ANALYZE the planner takes any tenant's part of it for a few rows, and would begin there.
            "join_collapse_limit": "1",
        },
    )


async def _keep_as_is(_connection: object) -> None:
    return None
