"""What svc-auth knows of tenants: it asks svc-tenants, and remembers for seconds."""

import asyncio
import uuid
from dataclasses import dataclass

from aerostic.tenants.v1.tenant_service_pb2 import BatchGetTenantStatesRequest, CreateTenantRequest
from aerostic.tenants.v1.tenant_service_pb2_grpc import TenantServiceStub

from kit.errors import RemoteError, Unavailable
from kit.grpc_client import Channel
from svc_auth.errors import RegistrationPending, TenantDeleting, TenantSuspended

_FRESH_SECONDS = 5.0
_USABLE_SECONDS = 300.0
"""While svc-tenants is away, what was true minutes ago lets people keep signing in."""
_REMEMBERED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Workspace:
    """A tenant, as signing in needs it."""

    id: uuid.UUID
    display_name: str
    state: str
    """As svc-tenants says it, such as "active"."""


class Workspaces:
    """Asks svc-tenants."""

    def __init__(self, tenants: Channel) -> None:
        self._channel = tenants
        self._stub = tenants.stub(TenantServiceStub)
        self._known: dict[uuid.UUID, tuple[Workspace, float]] = {}

    async def create(self, tenant_id: uuid.UUID, display_name: str) -> None:
        """Create the tenant, or find it created. Raises RegistrationPending while svc-tenants is away."""
        request = CreateTenantRequest(tenant_id=str(tenant_id), display_name=display_name)
        try:
            await self._channel.call(self._stub.CreateTenant, request, timeout=5)
        except RemoteError as error:
            if error.is_outage:
                raise RegistrationPending from error
            raise

    async def require_active(self, tenant_id: uuid.UUID) -> Workspace:
        """Raises TenantSuspended, TenantDeleting, or Unavailable where nothing is known."""
        workspace = await self.get(tenant_id)
        if workspace.state == "deleting":
            raise TenantDeleting
        if workspace.state == "suspended":
            raise TenantSuspended
        return workspace

    async def get(self, tenant_id: uuid.UUID) -> Workspace:
        now = asyncio.get_running_loop().time()
        known, asked_at = self._known.get(tenant_id, (None, 0.0))
        if known is not None and now - asked_at < _FRESH_SECONDS:
            return known
        try:
            workspace = await self._ask(tenant_id)
        except RemoteError as error:
            if known is not None and error.is_outage and now - asked_at < _USABLE_SECONDS:
                return known
            raise Unavailable("The workspace cannot be looked up at this moment; try again shortly.") from error
        while len(self._known) >= _REMEMBERED_MAX:
            self._known.pop(next(iter(self._known)))
        self._known[tenant_id] = (workspace, now)
        return workspace

    async def _ask(self, tenant_id: uuid.UUID) -> Workspace:
        request = BatchGetTenantStatesRequest(tenant_ids=[str(tenant_id)])
        answer = await self._channel.call(self._stub.BatchGetTenantStates, request, timeout=3)
        if not answer.tenants:
            raise Unavailable("The workspace is not set up yet; try again shortly.")
        found = answer.tenants[0]
        return Workspace(tenant_id, found.display_name, found.state)
