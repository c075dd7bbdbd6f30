"""The RPCs by which the operator makes tenants and numbers be as their Kubernetes objects say."""

import uuid

from aerostic.tenants.v1 import provisioning_service_pb2 as pb
from aerostic.tenants.v1.provisioning_service_pb2_grpc import ProvisioningServiceServicer
from aerostic.tenants.v1.tenant_erasure_pb2 import TenantErasure
from aerostic.tenants.v1.tenant_pb2 import Tenant

from kit import pages
from kit.db import Database
from kit.principal import current_principal
from svc_tenants import convert, erasures, provisioning, whatsapp_accounts
from svc_tenants.checks import Wanted
from svc_tenants.connecting import Connector
from svc_tenants.errors import TenantNotFound
from svc_tenants.provisioning import Described
from svc_tenants.usage import Month


class ProvisioningServer(ProvisioningServiceServicer):
    def __init__(self, db: Database, connector: Connector) -> None:
        self._db = db
        self._connector = connector

    async def ListTenantRecords(
        self, request: pb.ListTenantRecordsRequest, context: object
    ) -> pb.ListTenantRecordsResponse:
        page, month = pages.read(request, None, keys={"id": uuid.UUID}), Month.current()
        async with self._db.begin(current_principal()) as tx:
            rows = await provisioning.list_page(tx, page, month)
        token = page.token({"id": rows[page.size - 1]["id"]}) if len(rows) > page.size else ""
        records = [convert.tenant_record(row, month) for row in rows[: page.size]]
        return pb.ListTenantRecordsResponse(records=records, next_page_token=token)

    async def BatchGetTenantRecords(
        self, request: pb.BatchGetTenantRecordsRequest, context: object
    ) -> pb.BatchGetTenantRecordsResponse:
        month = Month.current()
        async with self._db.begin(current_principal()) as tx:
            rows = await provisioning.by_slugs(tx, request.slugs, month)
        return pb.BatchGetTenantRecordsResponse(records=[convert.tenant_record(row, month) for row in rows])

    async def ApplyTenant(self, request: pb.ApplyTenantRequest, context: object) -> Tenant:
        principal = current_principal().on_behalf_of(uuid.UUID(request.tenant_id))
        described = Described(
            slug=request.slug,
            display_name=request.display_name if request.HasField("display_name") else None,
            isolation=request.isolation if request.HasField("isolation") else None,
            suspended=request.suspended if request.HasField("suspended") else None,
            suspension_reason=request.suspension_reason,
        )
        async with self._db.begin(principal) as tx:
            return convert.tenant(await provisioning.apply(tx, principal, described))

    async def EraseTenant(self, request: pb.EraseTenantRequest, context: object) -> TenantErasure:
        principal = current_principal().on_behalf_of(uuid.UUID(request.tenant_id))
        try:
            async with self._db.begin(principal) as tx:
                return convert.tenant_erasure(await erasures.begin(tx, principal, confirm_slug=request.slug))
        except TenantNotFound:
            # Nothing is there, and that is what was asked for.
            return TenantErasure(tenant_id=request.tenant_id, slug=request.slug, state="done")

    async def GetNumberRecord(self, request: pb.GetNumberRecordRequest, context: object) -> pb.NumberRecord:
        principal = current_principal().on_behalf_of(uuid.UUID(request.tenant_id))
        async with self._db.begin(principal) as tx:
            row = await whatsapp_accounts.get_by_number(tx, principal.require_tenant(), request.phone_number_id)
        return convert.number_record(row)

    async def ListNumberRecords(
        self, request: pb.ListNumberRecordsRequest, context: object
    ) -> pb.ListNumberRecordsResponse:
        page = pages.read(request, None, keys={"tenant": uuid.UUID, "id": uuid.UUID})
        async with self._db.begin(current_principal()) as tx:
            rows = await provisioning.list_numbers(tx, page)
        answer = pb.ListNumberRecordsResponse(records=[convert.number_record(row) for row in rows[: page.size]])
        if len(rows) > page.size:
            last = rows[page.size - 1]
            answer.next_page_token = page.token({"tenant": last["tenant_id"], "id": last["id"]})
        return answer

    async def ConnectNumber(self, request: pb.ConnectNumberRequest, context: object) -> pb.NumberRecord:
        principal = current_principal().on_behalf_of(uuid.UUID(request.tenant_id))
        wanted = Wanted(request.waba_id, request.phone_number_id, request.access_token)
        return convert.number_record(await self._connector.connect(principal, wanted))

    async def DisconnectNumber(
        self, request: pb.DisconnectNumberRequest, context: object
    ) -> pb.DisconnectNumberResponse:
        principal = current_principal().on_behalf_of(uuid.UUID(request.tenant_id))
        async with self._db.begin(principal) as tx:
            row = await whatsapp_accounts.find_by_number(tx, principal.require_tenant(), request.phone_number_id)
        if row is None:
            return pb.DisconnectNumberResponse()
        done = await self._connector.disconnect(principal, row["id"], active_only=False)
        return pb.DisconnectNumberResponse(subscription=done.outcome)
