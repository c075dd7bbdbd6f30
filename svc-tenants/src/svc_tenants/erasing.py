"""The worker that erases tenants: step after step, each in small pieces that may be repeated, whatever dies meanwhile.

First the numbers are disconnected, so that nothing new comes; then the other services erase what they have; then events
go from the stream. Whoever was in the middle of something then has time to end it, and everybody looks again. The
tenant's own rows go last, for they say whose everything else is. One process of all works, on several tenants at once,
so that one whose service is away holds up no other.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import asyncpg
import nats.errors
import structlog
from nats.js.errors import Error as StreamError
from prometheus_client import Counter, Gauge

from kit import erasing
from kit.bus import Bus
from kit.db import Database, Row
from kit.erasing import Table
from kit.errors import AppError
from kit.leases import LeasePool
from kit.principal import Principal
from svc_tenants import connected_numbers, erased_streams, erasures, events, whatsapp_accounts
from svc_tenants.connecting import Connector
from svc_tenants.erasing_elsewhere import Elsewhere
from svc_tenants.errors import WhatsAppAccountNotFound

log = structlog.get_logger()

TABLES = (
    Table("tenant_usage", ("day",)),
    Table("connected_numbers", ("phone_number_id",)),
    Table("whatsapp_tokens", ("whatsapp_account_id",)),
    Table("whatsapp_accounts", ("id",)),
    Table("data_keys", ("id",)),
    Table("audit_log", ("id",)),
)
"""Those that refer to others first; `tenants` itself goes with the last step."""

_SELF = Principal.service("svc-tenants")
_POLL_SECONDS = 1.0
_AGAIN_SECONDS = 5.0
_AT_ONCE = 4
_SECONDS = 5.0

# What another try may mend, or a person who reads it: nothing of it may end the process that serves everybody.
_FAILURES = (AppError, asyncpg.PostgresError, nats.errors.Error, StreamError, OSError, TimeoutError)

_erased = Counter("aerostic_tenants_erased_total", "Tenants that were erased")
_open = Gauge("aerostic_tenant_erasures_open", "Tenants that are being erased")
_idle = Gauge(
    "aerostic_tenant_erasure_idle_seconds", "Longest time for which nothing was erased of a tenant that is being erased"
)

Step = Callable[[Row], Awaitable[bool]]
"""Does a part of a step; True when the step is done."""


class Eraser:
    """Looks every second; one process of all does."""

    def __init__(
        self, db: Database, bus: Bus, connector: Connector, elsewhere: Elsewhere, *, settle_seconds: float
    ) -> None:
        """`settle_seconds`: how long nothing may have been erased before everybody looks again."""
        self._db = db
        self._bus = bus
        self._connector = connector
        self._elsewhere = elsewhere
        self._settle_seconds = settle_seconds
        self._again_at: dict[uuid.UUID, float] = {}
        self._steps: dict[str, Step] = {
            "numbers": self._numbers,
            "auth": self._auth,
            "messaging": self._messaging,
            "events": self._events,
            "check": self._check,
            "tenant": self._tenant,
        }

    async def run(self, dsn: str, stop: asyncio.Event) -> None:
        await LeasePool(dsn, "erasures", 1).run(self._work, stop)

    async def _work(self, _lease: int, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                if not await self.look():
                    waiting = asyncio.ensure_future(stop.wait())
                    await asyncio.wait([waiting], timeout=_POLL_SECONDS)
                    waiting.cancel()
        finally:
            # Whoever works next tells it.
            _open.set(0)
            _idle.set(0)

    async def look(self) -> bool:
        """Do a piece of every erasure that is not done; True when any of them came further."""
        async with self._db.begin(_SELF) as tx:
            rows = await erasures.open_ones(tx)
        _open.set(len(rows))
        _idle.set(max((row["idle_seconds"] for row in rows), default=0))
        now = asyncio.get_running_loop().time()
        due = [row for row in rows if self._again_at.get(row["tenant_id"], 0) <= now][:_AT_ONCE]
        return any(await asyncio.gather(*(self._carry_on(row) for row in due)))

    async def _carry_on(self, row: Row) -> bool:
        tenant_id, step = row["tenant_id"], str(row["step"])
        try:
            is_done = await self._steps[step](row)
        except _FAILURES as error:
            self._again_at[tenant_id] = asyncio.get_running_loop().time() + _AGAIN_SECONDS
            log.warning("erasure_waits", tenant=str(tenant_id), step=step, error=repr(error))
            async with self._db.begin(_SELF) as tx:
                await erasures.fail(tx, tenant_id, f"{step}: {str(error) or type(error).__name__}")
            return False
        if not is_done:
            # What waits for its time lets the others have theirs.
            self._again_at[tenant_id] = asyncio.get_running_loop().time() + (_POLL_SECONDS if step == "check" else 0)
            return step != "check"
        self._again_at.pop(tenant_id, None)
        if step != "tenant":
            async with self._db.begin(_SELF) as tx:
                await erasures.advance(tx, tenant_id, step)
        log.info("erasure_advanced", tenant=str(tenant_id), step=step)
        return True

    async def _note(self, tenant_id: uuid.UUID, erased: dict[str, int]) -> None:
        async with self._db.begin(_SELF) as tx:
            await erasures.note(tx, tenant_id, erased)

    async def _numbers(self, row: Row) -> bool:
        """Some at once: each waits for Meta as long as one answer takes, and is disconnected whatever it says."""
        tenant_id = row["tenant_id"]
        principal = _SELF.on_behalf_of(tenant_id)
        async with self._db.begin(principal) as tx:
            connected = await connected_numbers.of_tenant(tx, tenant_id)
        some = connected[:_AT_ONCE]
        for outcome in await asyncio.gather(*(self._disconnect(principal, each) for each in some)):
            await self._note(tenant_id, {"numbers": 1, f"subscriptions.{outcome}": 1})
        return len(some) == len(connected)

    async def _disconnect(self, principal: Principal, number: Row) -> str:
        try:
            done = await self._connector.disconnect(principal, number["whatsapp_account_id"], active_only=False)
        except WhatsAppAccountNotFound:
            # Somebody disconnected it in this very moment, and saw to the subscription.
            return "kept"
        return done.outcome

    async def _auth(self, row: Row) -> bool:
        return await self._noted(row["tenant_id"], self._elsewhere.erase_auth(row["tenant_id"])) is not None

    async def _messaging(self, row: Row) -> bool:
        return await self._noted(row["tenant_id"], self._erase_messaging(row["tenant_id"])) is not None

    async def _events(self, row: Row) -> bool:
        await self._note(row["tenant_id"], await erased_streams.erase(self._bus, row["tenant_id"]))
        return True

    async def _check(self, row: Row) -> bool:
        """Once nothing was erased for a while, look whether anything came meanwhile; then the while begins anew."""
        if row["idle_seconds"] < self._settle_seconds:
            return False
        tenant_id = row["tenant_id"]
        for elsewhere in (self._elsewhere.erase_auth(tenant_id), self._erase_messaging(tenant_id)):
            # Any other answer than "nothing left, and nothing was" begins the while anew.
            if await self._noted(tenant_id, elsewhere) != {}:
                return False
        erased = await erased_streams.erase(self._bus, tenant_id)
        await self._note(tenant_id, erased)
        return not erased

    async def _tenant(self, row: Row) -> bool:
        tenant_id = row["tenant_id"]
        principal = _SELF.on_behalf_of(tenant_id)
        erased = await erasing.erase(self._db, principal, TABLES, seconds=_SECONDS)
        await self._note(tenant_id, {f"tenants.{table}": count for table, count in erased.counts.items()})
        if not erased.done:
            return False
        async with self._db.begin(principal) as tx:
            await events.erase_waiting(tx, tenant_id)
            await erasures.finish(tx, tenant_id)
            await events.tenant_deleted(tx, tenant_id)
        _erased.inc()
        return True

    async def _erase_messaging(self, tenant_id: uuid.UUID) -> tuple[bool, dict[str, int]]:
        async with self._db.begin(_SELF.on_behalf_of(tenant_id)) as tx:
            numbers = await whatsapp_accounts.former_numbers(tx, tenant_id)
            owners = await connected_numbers.owners(tx, [each["phone_number_id"] for each in numbers])
        taken = {owner["phone_number_id"] for owner in owners}
        return await self._elsewhere.erase_messaging(tenant_id, numbers, taken)

    async def _noted(
        self, tenant_id: uuid.UUID, asking: Awaitable[tuple[bool, dict[str, int]]]
    ) -> dict[str, int] | None:
        """What was erased in the last call; None where something is left."""
        is_done, erased = await asking
        await self._note(tenant_id, erased)
        return erased if is_done else None
