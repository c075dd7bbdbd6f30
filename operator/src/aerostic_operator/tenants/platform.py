"""What the platform says of tenants, and what it is asked to do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from aerostic.auth.v1 import invitation_service_pb2 as auth_pb
from aerostic.auth.v1.invitation_service_pb2_grpc import InvitationServiceStub
from aerostic.tenants.v1 import provisioning_service_pb2 as pb
from aerostic.tenants.v1.provisioning_service_pb2_grpc import ProvisioningServiceStub

from aerostic_operator.gathering import Gathering
from aerostic_operator.tenants.model import Apply, Erasure, FirstAdmin, Isolation, Record, Usage
from kit.grpc_client import Channel

_BATCH = 200
# As short as nobody notices, and long enough for a wave of new objects to be asked for by tens.
_GATHERING_SECONDS = 0.05
_SECONDS = 10


class TenantPlatform:
    """Svc-tenants, which has the tenants, and svc-auth, which has their people."""

    def __init__(self, tenants: Channel, auth: Channel) -> None:
        self._tenants = tenants
        self._auth = auth
        self._provisioning = tenants.stub(ProvisioningServiceStub)
        self._invitations = auth.stub(InvitationServiceStub)
        self._found: Gathering[str, Record] = Gathering(self._find, most=_BATCH, seconds=_GATHERING_SECONDS)
        self._admins: Gathering[str, FirstAdmin] = Gathering(self.first_admins, most=_BATCH, seconds=_GATHERING_SECONDS)

    async def find(self, slug: str) -> Record | None:
        """As it is now: what was asked for before this call is not taken for an answer."""
        return await self._found.get(slug)

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

    async def apply(self, slug: str, action: Apply, before: Record | None) -> Record:
        """The tenant afterwards. `before`: as it was found; None: it is new, so it has used nothing."""
        request = pb.ApplyTenantRequest(tenant_id=action.tenant_id, slug=slug)
        if action.display_name is not None:
            request.display_name = action.display_name
        if action.suspended is not None:
            request.suspended = action.suspended
            request.suspension_reason = action.suspension_reason
        if action.isolation is not None:
            request.isolation = action.isolation
        tenant = await self._tenants.call(self._provisioning.ApplyTenant, request, timeout=_SECONDS)
        record = _record(pb.TenantRecord(tenant=tenant))
        used = before.usage if before else Usage(f"{datetime.now(UTC):%Y-%m}")
        return replace(record, connected_numbers=before.connected_numbers if before else 0, usage=used)

    async def erase(self, tenant_id: str, slug: str) -> Erasure:
        """Have a tenant erased; repeated, how far that is."""
        request = pb.EraseTenantRequest(tenant_id=tenant_id, slug=slug)
        told = await self._tenants.call(self._provisioning.EraseTenant, request, timeout=_SECONDS)
        return Erasure(tuple(told.remaining_steps), told.last_error)

    async def first_admin(self, tenant_id: str) -> FirstAdmin | None:
        return await self._admins.get(tenant_id)

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

    async def _find(self, slugs: Sequence[str]) -> Mapping[str, Record]:
        request = pb.BatchGetTenantRecordsRequest(slugs=slugs)
        answer = await self._tenants.call(self._provisioning.BatchGetTenantRecords, request, timeout=_SECONDS)
        return {each.tenant.slug: _record(each) for each in answer.records}


def _record(record: pb.TenantRecord) -> Record:
    tenant, used = record.tenant, record.usage
    isolation: Isolation = "dedicated" if tenant.isolation == "dedicated" else "shared"
    usage = Usage(used.month, used.messages_received, used.messages_sent, used.messages_delivered, used.messages_failed)
    return Record(
        tenant.id,
        tenant.display_name,
        is_suspended=tenant.state == "suspended",
        is_being_erased=tenant.state == "deleting",
        connected_numbers=record.connected_numbers,
        isolation=isolation,
        usage=usage if used.month else None,
    )


def _first_admin(admin: auth_pb.FirstAdmin) -> FirstAdmin:
    if admin.state == "joined":
        return FirstAdmin(admin.email, has_joined=True)
    ends = admin.expire_time.ToDatetime(UTC)
    has_expired = ends <= datetime.now(UTC)
    return FirstAdmin(admin.email, has_joined=False, has_expired=has_expired, expire_time=f"{ends:%Y-%m-%dT%H:%M:%SZ}")


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)]
