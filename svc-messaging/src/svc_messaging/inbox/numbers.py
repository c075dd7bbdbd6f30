"""Whose number it is: asked of svc-tenants, remembered, and forgotten when svc-tenants says that something changed."""

import asyncio
import uuid
from collections.abc import Collection, Iterable
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
        self._changes = 0

    async def owners(self, numbers: Iterable[str]) -> dict[str, Owner]:
        """Those that belong to somebody. Raises TenantsUnavailable."""
        now = asyncio.get_running_loop().time()
        # What is known now is answered now: it may be forgotten while the others are asked for.
        answers = {n: self._known[n][0] for n in set(numbers) if n in self._known and self._known[n][1] >= now}
        missing = sorted(set(numbers) - answers.keys())
        for start in range(0, len(missing), _ASKED_MAX):
            answers |= await self._ask(missing[start : start + _ASKED_MAX], now)
        return {number: owner for number, owner in answers.items() if owner is not None}

    def forget(self, tenants: Collection[uuid.UUID]) -> None:
        """The numbers of these workspaces, and all unowned ones, which may be theirs by now."""
        self._known = {n: (o, until) for n, (o, until) in self._known.items() if o and o.tenant_id not in tenants}
        self._changes += 1

    def forget_all(self) -> None:
        self._known = {}
        self._changes += 1

    async def follow(self, bus: Bus, stop: asyncio.Event) -> None:
        """Forget whenever svc-tenants reports a change."""

        async def changed(message: Msg) -> None:
            self.forget({event.tenant_id for event in events.decode(message.headers, message.data)})

        await bus.follow("events.tenants.*.*.*", changed, missed=self.forget_all, stop=stop)

    async def _ask(self, numbers: list[str], now: float) -> dict[str, Owner | None]:
        changes = self._changes
        try:
            request = ResolveNumbersRequest(phone_number_ids=[number[:64] for number in numbers])
            answer = await self._channel.call(self._stub.ResolveNumbers, request, timeout=5)
        except RemoteError as error:
            raise TenantsUnavailable(error.reason) from error
        answers: dict[str, Owner | None] = dict.fromkeys(numbers)
        for found in answer.numbers:
            owner = Owner(uuid.UUID(found.tenant_id), uuid.UUID(found.whatsapp_account_id))
            answers[found.phone_number_id] = owner
        if changes == self._changes:  # otherwise the answer may be older than the change
            if len(self._known) > _REMEMBERED_MAX:
                self._known.clear()
            for number, each in answers.items():
                self._known[number] = (each, now + (_UNOWNED_SECONDS if each is None else _OWNED_SECONDS))
        return answers
