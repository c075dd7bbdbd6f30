"""What sending needs to know of a workspace: its state and its numbers, asked of svc-tenants and kept for seconds.

Fails closed: what is not known now is not sent. A change is heard as an event and takes effect at once; the short time
that an answer is kept bounds how long one that was missed could matter.
"""

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from aerostic.tenants.v1.whatsapp_account_service_pb2 import ListTenantNumbersRequest
from aerostic.tenants.v1.whatsapp_account_service_pb2_grpc import WhatsAppAccountServiceStub

from kit import events
from kit.bus import Bus, Msg
from kit.errors import RemoteError, Unavailable
from kit.grpc_client import Channel
from svc_messaging.errors import NumberNotConnected, TenantDeleting, TenantSuspended

log = structlog.get_logger()

_KEPT_SECONDS = 10.0
_REMEMBERED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Number:
    """A connected number."""

    account_id: uuid.UUID
    phone_number_id: str


@dataclass(frozen=True, slots=True)
class Workspace:
    """A tenant, as sending needs it."""

    state: str
    numbers: Mapping[uuid.UUID, Number]
    """By the id of the WhatsApp account."""

    def require_active(self) -> None:
        """Raises TenantSuspended and TenantDeleting."""
        if self.state == "deleting":
            raise TenantDeleting
        # A state that is not known here yet is no reason to send.
        if self.state != "active":
            raise TenantSuspended

    def require_connected(self, phone_number_id: str) -> None:
        """Raises NumberNotConnected."""
        if all(number.phone_number_id != phone_number_id for number in self.numbers.values()):
            raise NumberNotConnected.any_more()

    def number(self, account_id: uuid.UUID | None) -> Number:
        """The number to send from; without a name the only one. Raises NumberNotConnected."""
        if account_id is not None:
            if account_id not in self.numbers:
                raise NumberNotConnected.named(account_id)
            return self.numbers[account_id]
        if len(self.numbers) != 1:
            raise NumberNotConnected.unnamed(len(self.numbers))
        return next(iter(self.numbers.values()))


class Workspaces:
    """Asks svc-tenants."""

    def __init__(self, tenants: Channel, *, kept_seconds: float = _KEPT_SECONDS) -> None:
        self._channel = tenants
        self._stub = tenants.stub(WhatsAppAccountServiceStub)
        self._kept_seconds = kept_seconds
        self._known: dict[uuid.UUID, tuple[Workspace, float]] = {}
        self._changes = 0

    async def active(self, tenant_id: uuid.UUID) -> Workspace:
        """A workspace that may send. Raises TenantSuspended, TenantDeleting, or Unavailable where that cannot be
        known.
        """
        workspace = await self._get(tenant_id)
        workspace.require_active()
        return workspace

    def forget(self, tenant_id: uuid.UUID) -> None:
        self._changes += 1
        self._known.pop(tenant_id, None)

    def forget_all(self) -> None:
        self._changes += 1
        self._known.clear()

    async def follow(self, bus: Bus, stop: asyncio.Event) -> None:
        """Forget a workspace whenever svc-tenants reports that it or a number of it changed."""

        async def changed(message: Msg) -> None:
            for event in events.decode(message.headers, message.data):
                self.forget(event.tenant_id)

        await bus.follow("events.tenants.*.*.*", changed, missed=self.forget_all, stop=stop)

    async def _get(self, tenant_id: uuid.UUID) -> Workspace:
        now = asyncio.get_running_loop().time()
        known, until = self._known.get(tenant_id, (None, 0.0))
        if known is not None and now < until:
            return known
        changes = self._changes
        workspace = await self._ask(tenant_id)
        # An answer that was under way while something changed may tell of before; it serves this call only.
        if changes == self._changes:
            while len(self._known) >= _REMEMBERED_MAX:
                self._known.pop(next(iter(self._known)))
            self._known[tenant_id] = (workspace, now + self._kept_seconds)
        return workspace

    async def _ask(self, tenant_id: uuid.UUID) -> Workspace:
        request = ListTenantNumbersRequest(tenant_id=str(tenant_id))
        try:
            answer = await self._channel.call(self._stub.ListTenantNumbers, request, timeout=3)
        except RemoteError as error:
            log.warning("workspace_not_looked_up", reason=error.reason, detail=error.detail[:500])
            raise Unavailable("The workspace cannot be looked up at this moment; try again shortly.") from error
        numbers = [Number(uuid.UUID(each.whatsapp_account_id), each.phone_number_id) for each in answer.numbers]
        return Workspace(answer.tenant_state, {number.account_id: number for number in numbers})
