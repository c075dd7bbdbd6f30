"""Having the other services erase what they keep of a tenant. They may be away: then the erasure waits."""

import uuid
from collections.abc import Collection, Sequence

from aerostic.auth.v1 import erasure_service_pb2 as auth_pb
from aerostic.auth.v1.erasure_service_pb2_grpc import ErasureServiceStub as AuthErasureStub
from aerostic.messaging.v1 import erasure_service_pb2 as messaging_pb
from aerostic.messaging.v1.erasure_service_pb2_grpc import ErasureServiceStub as MessagingErasureStub

from kit.db import Row
from kit.grpc_client import Channel

_SECONDS = 30.0
"""A call works for some five of them, longer where a statement waits."""


class Elsewhere:
    """svc-auth and svc-messaging."""

    def __init__(self, auth: Channel, messaging: Channel) -> None:
        self._auth, self._auth_stub = auth, auth.stub(AuthErasureStub)
        self._messaging, self._messaging_stub = messaging, messaging.stub(MessagingErasureStub)

    async def erase_auth(self, tenant_id: uuid.UUID) -> tuple[bool, dict[str, int]]:
        """Whether nothing is left, and what was erased, by "auth.<table>". Raises RemoteError."""
        request = auth_pb.EraseTenantDataRequest(tenant_id=str(tenant_id))
        answer = await self._auth.call(self._auth_stub.EraseTenantData, request, timeout=_SECONDS)
        return answer.done, {f"auth.{table}": count for table, count in answer.erased.items()}

    async def erase_messaging(
        self, tenant_id: uuid.UUID, numbers: Sequence[Row], taken: Collection[str]
    ) -> tuple[bool, dict[str, int]]:
        """As `erase_auth`. `numbers`: phone_number_id and disconnected_at of all that the tenant ever had; `taken`:
        those of them that others have now.
        """
        request = messaging_pb.EraseTenantDataRequest(tenant_id=str(tenant_id))
        for row in numbers:
            number = request.numbers.add(phone_number_id=row["phone_number_id"], taken=row["phone_number_id"] in taken)
            number.until.FromDatetime(row["disconnected_at"])
        answer = await self._messaging.call(self._messaging_stub.EraseTenantData, request, timeout=_SECONDS)
        return answer.done, {f"messaging.{table}": count for table, count in answer.erased.items()}
