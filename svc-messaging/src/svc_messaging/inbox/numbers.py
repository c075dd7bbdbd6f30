"""Whose number it is: asked of svc-tenants, remembered, and forgotten when svc-tenants says that something changed."""

import asyncio
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from aerostic.tenants.v1.whatsapp_account_service_pb2 import ResolveNumbersRequest
from aerostic.tenants.v1.whatsapp_account_service_pb2_grpc import WhatsAppAccountServiceStub

from kit import events
from kit.bus import Bus, Msg
from kit.errors import RemoteError
from kit.grpc_client import Channel

_OWNED_SECONDS = 600.0
_UNOWNED_SECONDS = 15.0
_ASKED_MAX = 500
_REMEMBERED_MAX = 100_000


class TenantsUnavailable(Exception):
    """svc-tenants does not answer; what it would say is not known."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The workspace and the account that a number belongs to."""

    tenant_id: uuid.UUID
    account_id: uuid.UUID


class Numbers:
    """Resolves numbers in batches; an unknown one is asked for again soon, since it may just be being connected."""

    def __init__(self, tenants: Channel) -> None:
        self._channel = tenants
        self._stub = tenants.stub(WhatsAppAccountServiceStub)
        self._known: dict[str, tuple[Owner | None, float]] = {}

    async def owners(self, numbers: Iterable[str]) -> dict[str, Owner]:
        """Those that belong to somebody. Raises TenantsUnavailable."""
        now = asyncio.get_running_loop().time()
        wanted = set(numbers)
        missing = [number for number in wanted if number not in self._known or self._known[number][1] < now]
        for start in range(0, len(missing), _ASKED_MAX):
            await self._ask(missing[start : start + _ASKED_MAX], now)
        return {number: owner for number in wanted if (owner := self._known[number][0]) is not None}

    async def follow(self, bus: Bus, stop: asyncio.Event) -> None:
        """Forget a workspace's numbers, and all unowned ones, whenever svc-tenants reports a change."""

        async def changed(message: Msg) -> None:
            tenants = {event.tenant_id for event in events.decode(message.headers, message.data)}
            kept = {n: (o, until) for n, (o, until) in self._known.items() if o is not None}
            self._known = {n: (o, until) for n, (o, until) in kept.items() if o.tenant_id not in tenants}

        subscription = await bus.client.subscribe("events.tenants.*.*.*", cb=changed)
        try:
            await stop.wait()
        finally:
            await subscription.unsubscribe()

    async def _ask(self, numbers: list[str], now: float) -> None:
        try:
            request = ResolveNumbersRequest(phone_number_ids=[number[:64] for number in numbers])
            answer = await self._channel.call(self._stub.ResolveNumbers, request, timeout=5)
        except RemoteError as error:
            raise TenantsUnavailable(error.reason) from error
        if len(self._known) > _REMEMBERED_MAX:
            self._known.clear()
        self._known.update(dict.fromkeys(numbers, (None, now + _UNOWNED_SECONDS)))
        for found in answer.numbers:
            owner = Owner(uuid.UUID(found.tenant_id), uuid.UUID(found.whatsapp_account_id))
            self._known[found.phone_number_id] = (owner, now + _OWNED_SECONDS)
