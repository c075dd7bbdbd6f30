"""The RPC by which a workspace's people are erased."""

import uuid

from aerostic.auth.v1 import erasure_service_pb2 as pb
from aerostic.auth.v1.erasure_service_pb2_grpc import ErasureServiceServicer

from kit.db import Database
from kit.principal import current_principal
from svc_auth import erasures

_SECONDS = 5.0
"""Of one call: well below what a caller waits."""


class ErasureServer(ErasureServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db

    async def EraseTenantData(self, request: pb.EraseTenantDataRequest, context: object) -> pb.EraseTenantDataResponse:
        principal = current_principal().on_behalf_of(uuid.UUID(request.tenant_id))
        erased = await erasures.erase(self._db, principal, seconds=_SECONDS)
        return pb.EraseTenantDataResponse(done=erased.done, erased=erased.counts)
