"""The RPCs of svc-tenants."""

import uuid
from dataclasses import replace
from datetime import datetime

from aerostic.tenants.v1 import tenant_erasure_pb2, tenant_pb2, tenant_service_pb2, whatsapp_account_pb2
from aerostic.tenants.v1 import whatsapp_account_service_pb2 as accounts_pb2
from aerostic.tenants.v1.tenant_service_pb2_grpc import TenantServiceServicer
from aerostic.tenants.v1.whatsapp_account_service_pb2_grpc import WhatsAppAccountServiceServicer

from kit import pages
from kit.crypto import KeyRing
from kit.db import Database
from kit.principal import Principal, current_principal
from svc_tenants import connected_numbers, convert, credentials, erasures, tenants, whatsapp_accounts
from svc_tenants.checks import Wanted
from svc_tenants.connecting import Connector


def _within(tenant_id: str) -> Principal:
    """The caller inside the tenant that the request names: only super admins and our own processes may name one."""
    return replace(current_principal(), tenant_id=uuid.UUID(tenant_id))


class TenantServer(TenantServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db

    async def GetMyTenant(self, request: tenant_service_pb2.GetMyTenantRequest, context: object) -> tenant_pb2.Tenant:
        principal = current_principal()
        async with self._db.begin(principal) as tx:
            return convert.tenant(await tenants.get(tx, principal.require_tenant()))

    async def ListTenants(
        self, request: tenant_service_pb2.ListTenantsRequest, context: object
    ) -> tenant_service_pb2.ListTenantsResponse:
        page = pages.read(request, None, keys={"create_time": datetime, "id": uuid.UUID})
        async with self._db.begin(current_principal()) as tx:
            rows = await tenants.list_page(tx, page, state=request.state)
        answer = tenant_service_pb2.ListTenantsResponse(tenants=[convert.tenant(row) for row in rows[: page.size]])
        if len(rows) > page.size:
            last = rows[page.size - 1]
            answer.next_page_token = page.token({"create_time": last["created_at"], "id": last["id"]})
        return answer

    async def GetTenant(self, request: tenant_service_pb2.GetTenantRequest, context: object) -> tenant_pb2.Tenant:
        principal = _within(request.tenant_id)
        async with self._db.begin(principal) as tx:
            return convert.tenant(await tenants.get(tx, principal.require_tenant()))

    async def SuspendTenant(
        self, request: tenant_service_pb2.SuspendTenantRequest, context: object
    ) -> tenant_pb2.Tenant:
        principal = _within(request.tenant_id)
        async with self._db.begin(principal) as tx:
            return convert.tenant(await tenants.suspend(tx, principal, reason=request.reason))

    async def ResumeTenant(self, request: tenant_service_pb2.ResumeTenantRequest, context: object) -> tenant_pb2.Tenant:
        principal = _within(request.tenant_id)
        async with self._db.begin(principal) as tx:
            return convert.tenant(await tenants.resume(tx, principal))

    async def DeleteTenant(
        self, request: tenant_service_pb2.DeleteTenantRequest, context: object
    ) -> tenant_erasure_pb2.TenantErasure:
        principal = _within(request.tenant_id)
        async with self._db.begin(principal) as tx:
            return convert.tenant_erasure(await erasures.begin(tx, principal, confirm_slug=request.confirm_slug))

    async def ListTenantErasures(
        self, request: tenant_service_pb2.ListTenantErasuresRequest, context: object
    ) -> tenant_service_pb2.ListTenantErasuresResponse:
        page = pages.read(request, None, keys={"request_time": datetime, "id": uuid.UUID})
        async with self._db.begin(current_principal()) as tx:
            rows = await erasures.list_page(tx, page, state=request.state)
        answer = tenant_service_pb2.ListTenantErasuresResponse(
            tenant_erasures=[convert.tenant_erasure(row) for row in rows[: page.size]]
        )
        if len(rows) > page.size:
            last = rows[page.size - 1]
            answer.next_page_token = page.token({"request_time": last["requested_at"], "id": last["tenant_id"]})
        return answer

    async def GetTenantErasure(
        self, request: tenant_service_pb2.GetTenantErasureRequest, context: object
    ) -> tenant_erasure_pb2.TenantErasure:
        principal = _within(request.tenant_id)
        async with self._db.begin(principal) as tx:
            return convert.tenant_erasure(await erasures.get(tx, principal.require_tenant()))

    async def CreateTenant(self, request: tenant_service_pb2.CreateTenantRequest, context: object) -> tenant_pb2.Tenant:
        principal = _within(request.tenant_id)
        async with self._db.begin(principal) as tx:
            row = await tenants.create(tx, principal, display_name=request.display_name, slug=request.slug)
            return convert.tenant(row)

    async def BatchGetTenantStates(
        self, request: tenant_service_pb2.BatchGetTenantStatesRequest, context: object
    ) -> tenant_service_pb2.BatchGetTenantStatesResponse:
        async with self._db.begin(current_principal()) as tx:
            rows = await tenants.states(tx, [uuid.UUID(tenant_id) for tenant_id in request.tenant_ids])
        return tenant_service_pb2.BatchGetTenantStatesResponse(tenants=[convert.tenant_state(row) for row in rows])


class WhatsAppAccountServer(WhatsAppAccountServiceServicer):
    def __init__(self, db: Database, connector: Connector, keys: KeyRing) -> None:
        self._db = db
        self._connector = connector
        self._keys = keys

    async def ListWhatsAppAccounts(
        self, request: accounts_pb2.ListWhatsAppAccountsRequest, context: object
    ) -> accounts_pb2.ListWhatsAppAccountsResponse:
        principal = current_principal()
        tenant_id = principal.require_tenant()
        page = pages.read(request, tenant_id, keys={"id": uuid.UUID})
        async with self._db.begin(principal) as tx:
            rows = await whatsapp_accounts.list_page(tx, tenant_id, page)
        found = [convert.whatsapp_account(row) for row in rows[: page.size]]
        token = page.token({"id": rows[page.size - 1]["id"]}) if len(rows) > page.size else ""
        return accounts_pb2.ListWhatsAppAccountsResponse(whatsapp_accounts=found, next_page_token=token)

    async def GetWhatsAppAccount(
        self, request: accounts_pb2.GetWhatsAppAccountRequest, context: object
    ) -> whatsapp_account_pb2.WhatsAppAccount:
        principal = current_principal()
        account_id = uuid.UUID(request.whatsapp_account_id)
        async with self._db.begin(principal) as tx:
            return convert.whatsapp_account(await whatsapp_accounts.get(tx, principal.require_tenant(), account_id))

    async def CreateWhatsAppAccount(
        self, request: accounts_pb2.CreateWhatsAppAccountRequest, context: object
    ) -> whatsapp_account_pb2.WhatsAppAccount:
        wanted = Wanted(request.waba_id, request.phone_number_id, request.access_token)
        return convert.whatsapp_account(await self._connector.connect(current_principal(), wanted))

    async def DeleteWhatsAppAccount(
        self, request: accounts_pb2.DeleteWhatsAppAccountRequest, context: object
    ) -> accounts_pb2.DeleteWhatsAppAccountResponse:
        account_id = uuid.UUID(request.whatsapp_account_id)
        done = await self._connector.disconnect(current_principal(), account_id)
        return accounts_pb2.DeleteWhatsAppAccountResponse(subscription=done.outcome, detail=done.detail)

    async def ResolveNumbers(
        self, request: accounts_pb2.ResolveNumbersRequest, context: object
    ) -> accounts_pb2.ResolveNumbersResponse:
        async with self._db.begin(current_principal()) as tx:
            rows = await connected_numbers.owners(tx, request.phone_number_ids)
        return accounts_pb2.ResolveNumbersResponse(numbers=[convert.resolved_number(row) for row in rows])

    async def ListTenantNumbers(
        self, request: accounts_pb2.ListTenantNumbersRequest, context: object
    ) -> accounts_pb2.ListTenantNumbersResponse:
        principal = _within(request.tenant_id)
        tenant_id = principal.require_tenant()
        async with self._db.begin(principal) as tx:
            tenant = await tenants.get(tx, tenant_id)
            rows = await connected_numbers.of_tenant(tx, tenant_id)
        return accounts_pb2.ListTenantNumbersResponse(
            tenant_state=tenant["state"], numbers=[convert.resolved_number(row) for row in rows]
        )

    async def GetSendingCredentials(
        self, request: accounts_pb2.GetSendingCredentialsRequest, context: object
    ) -> accounts_pb2.SendingCredentials:
        return await credentials.for_sending(self._db, current_principal(), self._keys, request.phone_number_id)
