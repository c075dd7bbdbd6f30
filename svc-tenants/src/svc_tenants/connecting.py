"""Connecting and disconnecting a number: what happens at Meta, between the transactions that happen here.

No transaction is open while Meta is asked. A connection is stored when all steps have passed, so a process that dies on
the way leaves nothing behind but, at worst, a subscription that nobody needs.

Several numbers, even of several tenants, share the one subscription of their WABA. While one number is disconnected
another may be connected, and the subscription must survive: whoever connects subscribes once more after storing, and
whoever ends a subscription looks afterwards whether somebody came, and then restores it. In whichever order the two
fall, the last word is a subscription.
"""

import uuid
from dataclasses import dataclass, replace
from typing import Literal

import structlog

from kit.crypto import DecryptionFailed, KeyRing, KeyUnknown
from kit.db import Database, Row
from kit.principal import Principal
from svc_tenants import audit, checks, connected_numbers, sealed_tokens, tenants, whatsapp_accounts
from svc_tenants.checks import Check, Wanted
from svc_tenants.errors import MetaRefused, MetaUnreachable
from svc_tenants.graph import GraphClient, Refused, Unreachable
from svc_tenants.sealed_tokens import SealedToken

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Unsubscription:
    """What became of our app's subscription at Meta when a number was disconnected."""

    outcome: Literal["ended", "kept", "failed"]
    detail: str = ""


class Connector:
    """Connects and disconnects numbers: the database, Meta, and the keys that encrypt tokens."""

    def __init__(self, db: Database, graph: GraphClient, keys: KeyRing) -> None:
        self._db = db
        self._graph = graph
        self._keys = keys

    async def connect(self, principal: Principal, wanted: Wanted) -> Row:
        """Check a number with Meta and store it. Raises TenantSuspended, MetaRefused, MetaUnreachable, NumberTaken."""
        tenant_id = principal.require_tenant()
        async with self._db.begin(principal) as tx:
            await tenants.require_active(tx, tenant_id)
        verified = await checks.verify(self._graph, wanted)
        # Asked only now: who cannot use a number does not learn whether somebody here has it.
        async with self._db.begin(principal) as tx:
            await connected_numbers.refuse_taken(tx, tenant_id, wanted.phone_number_id)
        subscribed = await checks.subscribe(self._graph, wanted)
        verified = replace(verified, checks=(*verified.checks, subscribed))
        async with self._db.begin(principal) as tx:
            await tenants.require_active(tx, tenant_id)
            row = await whatsapp_accounts.store(tx, principal, wanted, verified)
            await sealed_tokens.put(tx, self._keys, row, wanted.access_token)
        try:
            await checks.subscribe(self._graph, wanted)
        except (MetaRefused, MetaUnreachable) as error:
            unsure = Check(
                "subscription", "failed", f"Could not be confirmed; connect the number again. {error.message}"
            )
            async with self._db.begin(principal) as tx:
                row = await whatsapp_accounts.record_checks(tx, row, [*verified.checks[:-1], unsure])
        return row

    async def disconnect(
        self, principal: Principal, account_id: uuid.UUID, *, active_only: bool = True
    ) -> Unsubscription:
        """Disconnect a number and forget its token, then end the subscription at Meta if nobody needs it.

        What Meta does cannot undo the first. Raises WhatsAppAccountNotFound, and TenantSuspended if `active_only`.
        """
        async with self._db.begin(principal) as tx:
            if active_only:
                await tenants.require_active(tx, principal.require_tenant())
            row = await whatsapp_accounts.disconnect(tx, principal, account_id)
            sealed = await sealed_tokens.take(tx, row)
        done = await self._unsubscribe(principal, row, sealed)
        if done.outcome == "failed":
            log.warning("unsubscribe_failed", whatsapp_account=str(account_id), waba=row["waba_id"], detail=done.detail)
        async with self._db.begin(principal) as tx:
            await audit.record(
                tx,
                principal,
                f"whatsapp_account.subscription_{done.outcome}",
                f"whatsappAccounts/{account_id}",
                wabaId=row["waba_id"],
                detail=done.detail,
            )
        return done

    async def _unsubscribe(self, principal: Principal, account: Row, sealed: SealedToken) -> Unsubscription:
        waba_id: str = account["waba_id"]
        try:
            if await self._is_waba_in_use(principal, waba_id):
                return Unsubscription("kept")
            token = sealed.open(self._keys)
            await self._graph.unsubscribe(waba_id, token=token)
            if not await self._is_waba_in_use(principal, waba_id):
                return Unsubscription("ended")
            await self._graph.subscribe(waba_id, token=token)
        except Refused as refused:
            return Unsubscription("failed", f"Meta refused: {refused.words}")
        except Unreachable as away:
            return Unsubscription("failed", str(away))
        except (KeyUnknown, DecryptionFailed):
            return Unsubscription("failed", "The stored token cannot be read.")
        return Unsubscription("kept")

    async def _is_waba_in_use(self, principal: Principal, waba_id: str) -> bool:
        async with self._db.begin(principal) as tx:
            return await connected_numbers.is_waba_in_use(tx, waba_id)
