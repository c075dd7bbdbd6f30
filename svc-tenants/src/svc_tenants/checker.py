"""The task that looks at connected numbers again: what Meta says of each, every few minutes, spread over them.

One process of all looks. No transaction is open while Meta is asked. A Meta that is slow, away or has had enough calls
delays looks and nothing else: few are under way at once, none is repeated before its next turn, and where Meta answers
nobody all of them pause.
"""

import asyncio
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import structlog
from prometheus_client import Counter, Gauge

from kit.crypto import DecryptionFailed, KeyRing, KeyUnknown
from kit.db import Database
from kit.errors import AppError
from kit.leases import LeasePool
from kit.principal import Principal
from svc_tenants import audit, connected_numbers, number_records, rechecks
from svc_tenants.checks import Check, subscribed
from svc_tenants.graph import GraphClient, Limited, Refused, Unreachable
from svc_tenants.number_records import Account
from svc_tenants.rechecks import AppRefused, Look

log = structlog.get_logger()

_SELF = Principal.service("svc-tenants")
_POLL_SECONDS = 1.0
# At once, and begun in a second.
_AT_ONCE = 16
_COUNT_SECONDS = 30.0
# Meta counts the calls for a WABA by the hour.
_WABA_PAUSE_SECONDS = 3600.0
_PAUSE_SECONDS, _PAUSE_SECONDS_MAX = 60.0, 3600.0

# What another try may mend, or a person who reads it: nothing of it may end the process that serves everybody.
_FAILURES = (AppError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)

_looks = Counter("aerostic_number_checks_total", "Looks at the numbers of a WABA by a token, by outcome", ["outcome"])
_behind = Gauge("aerostic_number_checks_behind_seconds", "How late the look at a number is that is due longest")
_numbers = Gauge("aerostic_numbers_by_check", "Connected numbers by a check and its state", ["step", "state"])

Waba = tuple[uuid.UUID, str]
"""A tenant's numbers of one WABA: they are looked at together."""


class Checker:
    """Looks while `run` does. Any number of processes may run one; a lease lets one look."""

    def __init__(self, db: Database, graph: GraphClient, keys: KeyRing, *, seconds: float) -> None:
        """`seconds`: from one look at a number to the next, about."""
        self._db = db
        self._graph = graph
        self._keys = keys
        self._seconds = seconds
        self._running: dict[Waba, asyncio.Task[None]] = {}
        # After failures of ours, which left no trace in the database.
        self._again_at: dict[Waba, float] = {}
        self._paused_until = 0.0
        self._pause_seconds = _PAUSE_SECONDS
        self._unanswered = 0
        self._counted_at = 0.0

    async def run(self, dsn: str, stop: asyncio.Event) -> None:
        await LeasePool(dsn, "number checks", 1).run(self._work, stop)

    async def _work(self, _lease: int, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                await self._begin_some()
                waiting = asyncio.ensure_future(stop.wait())
                await asyncio.wait([waiting], timeout=_POLL_SECONDS)
                waiting.cancel()
        finally:
            # A look that is broken off is repeated by whoever works next, who also tells the numbers.
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)
            self._running.clear()
            _behind.set(0)
            _numbers.clear()

    async def look_at_all_due(self) -> None:
        """Look at what is due now, and wait for the end of it."""
        await self._begin_some()
        await asyncio.gather(*self._running.values())

    async def _begin_some(self) -> None:
        for waba in [waba for waba, task in self._running.items() if task.done()]:
            self._running.pop(waba).result()
        now = time.monotonic()
        async with self._db.begin(_SELF) as tx:
            # Beyond those that are passed over.
            most = _AT_ONCE + len(self._running) + len(self._again_at)
            due = await tx.fetch("SELECT * FROM due_checks($1)", most)
            if now - self._counted_at >= _COUNT_SECONDS:
                self._counted_at = now
                counts = await tx.fetch("SELECT * FROM numbers_by_check()")
                _numbers.clear()
                for row in counts:
                    _numbers.labels(row["step"], row["state"]).set(row["numbers"])
        _behind.set(max(0.0, (datetime.now(UTC) - due[0]["due_at"]).total_seconds()) if due else 0)
        if now < self._paused_until:
            return
        for row in due:
            waba = (row["tenant_id"], row["waba_id"])
            if len(self._running) < _AT_ONCE and waba not in self._running and self._again_at.get(waba, 0) <= now:
                self._running[waba] = asyncio.create_task(self._look_at(waba))

    async def _look_at(self, waba: Waba) -> None:
        self._again_at.pop(waba, None)
        try:
            outcome = await self._look(waba)
        except _FAILURES as error:
            log.warning("number_check_failed", tenant=str(waba[0]), waba=waba[1], error=repr(error))
            self._again_at[waba] = time.monotonic() + self._seconds
            outcome = "failed"
        _looks.labels(outcome).inc()

    async def _look(self, waba: Waba) -> str:
        tenant_id, waba_id = waba
        principal = _SELF.on_behalf_of(tenant_id)
        async with self._db.begin(principal) as tx:
            accounts = await number_records.of_waba(tx, tenant_id, waba_id)
        try:
            outcomes = [await self._look_by(principal, waba_id, *each) for each in self._by_token(accounts)]
        except Limited as limited:
            if limited.scope == "app":
                self._pause(str(limited))
            seconds = self._seconds if limited.scope == "app" else max(self._seconds, _WABA_PAUSE_SECONDS)
            return await self._postpone(principal, waba_id, "limited", str(limited), seconds)
        except Unreachable as away:
            self._unanswered += 1
            if self._unanswered >= _AT_ONCE:
                self._pause(str(away))
            return await self._postpone(principal, waba_id, "unreachable", str(away), self._seconds)
        except AppRefused as refused:
            self._pause(f"Meta refuses the app of this installation: {refused}")
            return await self._postpone(principal, waba_id, "refused", str(refused), self._seconds)
        self._pause_seconds, self._unanswered = _PAUSE_SECONDS, 0
        return "changed" if any(outcomes) else "same"

    def _by_token(self, accounts: Sequence[Account]) -> list[tuple[str, list[Account]]]:
        """Tokens with the numbers that they were connected with; those that cannot be read as an empty one."""
        found: dict[str, list[Account]] = {}
        for account in accounts:
            try:
                token = account.sealed.open(self._keys)
            except (KeyUnknown, DecryptionFailed) as error:
                log.error("token_unreadable", whatsapp_account=str(account.id), error=repr(error))
                token = ""
            found.setdefault(token, []).append(account)
        return list(found.items())

    async def _look_by(self, principal: Principal, waba_id: str, token: str, accounts: Sequence[Account]) -> bool:
        is_restored = False
        if token:
            found = await rechecks.look(self._graph, waba_id, token, [each.phone_number_id for each in accounts])
            if found.is_unsubscribed and (restored := await self._subscribe(principal, waba_id, token)):
                found.shared.append(restored)
                is_restored = restored.state == "passed"
        else:
            found = Look(
                shared=[Check("token", "failed", "The stored token cannot be read; connect the number again.")]
            )
        async with self._db.begin(principal) as tx:
            changed = [
                await number_records.record(
                    tx, principal, each, found.of(waba_id, each.phone_number_id), seconds=self._seconds
                )
                for each in accounts
            ]
            if is_restored:
                action, subject = "whatsapp_account.subscription_restored", f"whatsappAccounts/{accounts[0].id}"
                await audit.record(tx, principal, action, subject, wabaId=waba_id)
        return any(changed)

    async def _subscribe(self, principal: Principal, waba_id: str, token: str) -> Check | None:
        """Have the WABA's webhooks sent to our app again, for nobody but us may have ended that; None where no number
        of it is connected any more. As `Connector` does: whoever ends the subscription last looks who is there.
        """
        if not await self._is_in_use(principal, waba_id):
            return None
        try:
            await self._graph.subscribe(waba_id, token=token)
            if not await self._is_in_use(principal, waba_id):
                await self._graph.unsubscribe(waba_id, token=token)
                return None
        except Refused as refused:
            text = f"Meta does not subscribe our app to the WhatsApp Business Account {waba_id}: {refused.words}"
            return Check("subscription", "failed", text)
        log.warning("subscription_restored", tenant=str(principal.tenant_id), waba=waba_id)
        return subscribed()

    async def _is_in_use(self, principal: Principal, waba_id: str) -> bool:
        async with self._db.begin(principal) as tx:
            return await connected_numbers.is_waba_in_use(tx, waba_id)

    def _pause(self, why: str) -> None:
        """Ask nothing for a while, longer each time. Those that were under way together pause once."""
        if time.monotonic() < self._paused_until:
            return
        log.warning("number_checks_paused", seconds=self._pause_seconds, detail=why)
        self._paused_until = time.monotonic() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, _PAUSE_SECONDS_MAX)

    async def _postpone(self, principal: Principal, waba_id: str, outcome: str, detail: str, seconds: float) -> str:
        log.warning("number_check_postponed", tenant=str(principal.tenant_id), waba=waba_id, detail=detail)
        async with self._db.begin(principal) as tx:
            await number_records.postpone(tx, principal.require_tenant(), waba_id, seconds=seconds)
        return outcome
