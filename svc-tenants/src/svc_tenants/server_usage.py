"""The RPCs that tell what workspaces use."""

import uuid
from dataclasses import replace

from aerostic.tenants.v1 import usage_pb2
from aerostic.tenants.v1 import usage_service_pb2 as pb
from aerostic.tenants.v1.usage_service_pb2_grpc import UsageServiceServicer

from kit.db import Database
from kit.principal import Principal, current_principal
from svc_tenants import convert, tenants, usage
from svc_tenants.usage import Month


class UsageServer(UsageServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db

    async def GetMyUsage(self, request: pb.GetMyUsageRequest, context: object) -> usage_pb2.TenantUsage:
        return await self._usage(current_principal(), request.month)

    async def GetTenantUsage(self, request: pb.GetTenantUsageRequest, context: object) -> usage_pb2.TenantUsage:
        return await self._usage(replace(current_principal(), tenant_id=uuid.UUID(request.tenant_id)), request.month)

    async def _usage(self, principal: Principal, wanted: str) -> usage_pb2.TenantUsage:
        tenant_id, month = principal.require_tenant(), Month.read(wanted)
        async with self._db.begin(principal) as tx:
            await tenants.get(tx, tenant_id)
            return convert.usage_by_day(month, await usage.by_day(tx, tenant_id, month))
