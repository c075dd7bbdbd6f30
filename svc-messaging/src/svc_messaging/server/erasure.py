"""ErasureService."""

import uuid
from datetime import UTC

from aerostic.messaging.v1 import erasure_service_pb2 as pb
from aerostic.messaging.v1.erasure_service_pb2_grpc import ErasureServiceServicer

from kit.db import Database
from kit.principal import current_principal
from svc_messaging import erasures
from svc_messaging.erasures import FormerNumber

_SECONDS = 5.0
"""Of one call: well below what a caller waits."""


class ErasureServer(ErasureServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db

    async def EraseTenantData(self, request: pb.EraseTenantDataRequest, context: object) -> pb.EraseTenantDataResponse:
        principal = current_principal().on_behalf_of(uuid.UUID(request.tenant_id))
        numbers = [
            FormerNumber(each.phone_number_id, each.until.ToDatetime(tzinfo=UTC), each.taken)
            for each in request.numbers
        ]
        erased = await erasures.erase(self._db, principal, numbers, seconds=_SECONDS)
        return pb.EraseTenantDataResponse(done=erased.done, erased=erased.counts)
