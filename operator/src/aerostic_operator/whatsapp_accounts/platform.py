"""What svc-tenants says of connected numbers, and what it is asked to do."""

from aerostic.tenants.v1 import provisioning_service_pb2 as pb
from aerostic.tenants.v1.provisioning_service_pb2_grpc import ProvisioningServiceStub
from grpc import StatusCode

from aerostic_operator.whatsapp_accounts.plan import Number
from kit.errors import RemoteError
from kit.grpc_client import Channel

_SECONDS = 10
# Meta is asked several questions on the way.
_CONNECT_SECONDS = 30


class NumberPlatform:
    """The numbers of all tenants."""

    def __init__(self, tenants: Channel) -> None:
        self._tenants = tenants
        self._provisioning = tenants.stub(ProvisioningServiceStub)

    async def find(self, tenant_id: str, phone_number_id: str) -> Number | None:
        request = pb.GetNumberRecordRequest(tenant_id=tenant_id, phone_number_id=phone_number_id)
        try:
            return _number(await self._tenants.call(self._provisioning.GetNumberRecord, request, timeout=_SECONDS))
        except RemoteError as error:
            if error.code is StatusCode.NOT_FOUND:
                return None
            raise

    async def connect(self, tenant_id: str, waba_id: str, phone_number_id: str, token: str) -> Number:
        request = pb.ConnectNumberRequest(
            tenant_id=tenant_id, waba_id=waba_id, phone_number_id=phone_number_id, access_token=token
        )
        return _number(await self._tenants.call(self._provisioning.ConnectNumber, request, timeout=_CONNECT_SECONDS))

    async def disconnect(self, tenant_id: str, phone_number_id: str) -> None:
        request = pb.DisconnectNumberRequest(tenant_id=tenant_id, phone_number_id=phone_number_id)
        await self._tenants.call(self._provisioning.DisconnectNumber, request, timeout=_CONNECT_SECONDS)


def _number(record: pb.NumberRecord) -> Number:
    account = record.account
    return Number(
        account_id=account.id,
        waba_id=account.waba_id,
        token_version=record.token_version,
        display_phone_number=account.display_phone_number,
        verified_name=account.verified_name,
        quality_rating=account.quality_rating,
        messages_per_second=account.messages_per_second,
        failed_checks=tuple(f"{check.step}: {check.detail}" for check in account.checks if check.state == "failed"),
    )
