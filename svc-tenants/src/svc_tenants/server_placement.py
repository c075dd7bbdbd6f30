"""The RPC that tells which tenants have workers of their own."""

from aerostic.tenants.v1 import placement_service_pb2 as pb
from aerostic.tenants.v1.placement_service_pb2_grpc import PlacementServiceServicer

from kit.db import Database
from kit.principal import current_principal


class PlacementServer(PlacementServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db

    async def ListDedicatedTenants(
        self, request: pb.ListDedicatedTenantsRequest, context: object
    ) -> pb.ListDedicatedTenantsResponse:
        async with self._db.begin(current_principal()) as tx:
            rows = await tx.fetch("SELECT * FROM dedicated_tenants()")
        return pb.ListDedicatedTenantsResponse(
            tenants=[
                pb.DedicatedTenant(tenant_id=str(row["tenant_id"]), phone_number_ids=row["phone_number_ids"])
                for row in rows
            ]
        )
