"""What the platform says of tenants, and what it is asked to do."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from aerostic.auth.v1 import invitation_service_pb2 as auth_pb
from aerostic.auth.v1.invitation_service_pb2_grpc import InvitationServiceStub
from aerostic.tenants.v1 import provisioning_service_pb2 as pb
from aerostic.tenants.v1.provisioning_service_pb2_grpc import ProvisioningServiceStub

from aerostic_operator.tenants.model import Apply, Erasure, FirstAdmin, Record
from kit.grpc_client import Channel

_BATCH = 200
_SECONDS = 10


class TenantPlatform:
    """Svc-tenants, which has the tenants, and svc-auth, which has their people."""

    def __init__(self, tenants: Channel, auth: Channel) -> None:
        self._tenants = tenants
        self._auth = auth
        self._provisioning = tenants.stub(ProvisioningServiceStub)
        self._invitations = auth.stub(InvitationServiceStub)

    async def find(self, slug: str) -> Record | None:
        request = pb.BatchGetTenantRecordsRequest(slugs=[slug])
        answer = await self._tenants.call(self._provisioning.BatchGetTenantRecords, request, timeout=_SECONDS)
        return _record(answer.records[0]) if answer.records else None

    async def all(self) -> dict[str, Record]:
        """By slug."""
        found: dict[str, Record] = {}
        request = pb.ListTenantRecordsRequest(page_size=_BATCH)
        while True:
            page = await self._tenants.call(self._provisioning.ListTenantRecords, request, timeout=_SECONDS)
            found |= {record.tenant.slug: _record(record) for record in page.records}
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def apply(self, slug: str, action: Apply) -> None:
        request = pb.ApplyTenantRequest(tenant_id=action.tenant_id, slug=slug)
        if action.display_name is not None:
            request.display_name = action.display_name
        if action.suspended is not None:
            request.suspended = action.suspended
            request.suspension_reason = action.suspension_reason
        await self._tenants.call(self._provisioning.ApplyTenant, request, timeout=_SECONDS)

    async def erase(self, tenant_id: str, slug: str) -> Erasure:
        """Have a tenant erased; repeated, how far that is."""
        request = pb.EraseTenantRequest(tenant_id=tenant_id, slug=slug)
        told = await self._tenants.call(self._provisioning.EraseTenant, request, timeout=_SECONDS)
        return Erasure(tuple(told.remaining_steps), told.last_error)

    async def first_admins(self, tenant_ids: Iterable[str]) -> Mapping[str, FirstAdmin]:
        """By tenant."""
        found: dict[str, FirstAdmin] = {}
        for ids in _batches(list(tenant_ids)):
            request = auth_pb.BatchGetFirstAdminsRequest(tenant_ids=ids)
            answer = await self._auth.call(self._invitations.BatchGetFirstAdmins, request, timeout=_SECONDS)
            found |= {each.tenant_id: _first_admin(each) for each in answer.first_admins}
        return found

    async def invite(self, tenant_id: str, email: str) -> tuple[FirstAdmin, str]:
        """The first admin, and the token for somebody who has not joined."""
        request = auth_pb.InviteFirstAdminRequest(tenant_id=tenant_id, email=email)
        answer = await self._auth.call(self._invitations.InviteFirstAdmin, request, timeout=_SECONDS)
        return _first_admin(answer.first_admin), answer.token


def _record(record: pb.TenantRecord) -> Record:
    tenant = record.tenant
    return Record(
        tenant.id,
        tenant.display_name,
        is_suspended=tenant.state == "suspended",
        is_being_erased=tenant.state == "deleting",
        connected_numbers=record.connected_numbers,
    )


def _first_admin(admin: auth_pb.FirstAdmin) -> FirstAdmin:
    if admin.state == "joined":
        return FirstAdmin(admin.email, has_joined=True)
    ends = admin.expire_time.ToDatetime(UTC)
    has_expired = ends <= datetime.now(UTC)
    return FirstAdmin(admin.email, has_joined=False, has_expired=has_expired, expire_time=f"{ends:%Y-%m-%dT%H:%M:%SZ}")


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)]
