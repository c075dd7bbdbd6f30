"""What svc-tenants says of connected numbers, and what it is asked to do."""

from aerostic.tenants.v1 import provisioning_service_pb2 as pb
from aerostic.tenants.v1.provisioning_service_pb2_grpc import ProvisioningServiceStub
from aerostic.tenants.v1.whatsapp_account_pb2 import WhatsAppAccount
from grpc import StatusCode

from aerostic_operator.whatsapp_accounts.plan import Number
from kit.errors import RemoteError
from kit.grpc_client import Channel

_BATCH = 200
_TOKEN_STEPS = ("token", "scopes")
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

    async def all(self) -> dict[str, Number]:
        """By Meta's id of the number, which one workspace at a time has."""
        found: dict[str, Number] = {}
        request = pb.ListNumberRecordsRequest(page_size=_BATCH)
        while True:
            page = await self._tenants.call(self._provisioning.ListNumberRecords, request, timeout=_SECONDS)
            found |= {record.account.phone_number_id: _number(record) for record in page.records}
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

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
        state=account.state,
        number_status=account.number_status,
        name_status=account.name_status,
        messaging_limit=account.messaging_limit,
        token_expire_time=_time(account),
        failed_checks=tuple(f"{check.step}: {check.detail}" for check in account.checks if check.state == "failed"),
        warnings=tuple(check.detail for check in account.checks if check.state == "warning"),
        token_failures=_of_token(account, "failed"),
        token_warnings=_of_token(account, "warning"),
    )


def _of_token(account: WhatsAppAccount, state: str) -> tuple[str, ...]:
    return tuple(check.detail for check in account.checks if check.step in _TOKEN_STEPS and check.state == state)


def _time(account: WhatsAppAccount) -> str:
    if not account.HasField("token_expire_time"):
        return ""
    return f"{account.token_expire_time.ToDatetime():%Y-%m-%dT%H:%M:%SZ}"
