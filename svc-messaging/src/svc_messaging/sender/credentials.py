"""Tokens of the numbers this process sends for, kept in memory only.

svc-tenants hands them out one by one. A kept one is forgotten when svc-tenants says that the account or its workspace
changed, when Meta refuses it, and after five minutes in any case, so that a lost event cannot keep an old token alive.
"""

import asyncio
import uuid
from dataclasses import dataclass, field

import grpc
from aerostic.tenants.v1.whatsapp_account_service_pb2 import GetSendingCredentialsRequest
from aerostic.tenants.v1.whatsapp_account_service_pb2_grpc import WhatsAppAccountServiceStub

from kit.errors import RemoteError
from kit.grpc_client import Channel

_KEEP_SECONDS = 300


class NotConnected(Exception):
    """No workspace has this number connected."""


class CredentialsUnavailable(Exception):
    """svc-tenants does not answer now."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What sends for a number."""

    phone_number_id: str
    tenant_id: uuid.UUID
    access_token: str = field(repr=False)
    messages_per_second: int
    tenant_suspended: bool
    """Or in another state in which nothing is sent."""
    token_version: int


class CredentialsCache:
    """Asks svc-tenants once per number and five minutes, however many ask here."""

    def __init__(self, tenants: Channel) -> None:
        self._channel = tenants
        self._stub = tenants.stub(WhatsAppAccountServiceStub)
        self._kept: dict[str, tuple[Credentials, float]] = {}
        self._changes = 0
        self._asking: dict[str, asyncio.Lock] = {}

    async def get(self, phone_number_id: str) -> Credentials:
        async with self._asking.setdefault(phone_number_id, asyncio.Lock()):
            now = asyncio.get_running_loop().time()
            kept = self._kept.get(phone_number_id)
            if kept is not None and now <= kept[1]:
                return kept[0]
            changes = self._changes
            found = await self._ask(phone_number_id)
            # An answer that was under way while something changed may tell of before; it serves this call only.
            if changes == self._changes:
                self._kept[phone_number_id] = (found, now + _KEEP_SECONDS)
            return found

    def forget(self, phone_number_id: str) -> None:
        self._changes += 1
        self._kept.pop(phone_number_id, None)

    def forget_tenant(self, tenant_id: uuid.UUID) -> None:
        """An account of this workspace, or the workspace itself, changed."""
        self._changes += 1
        for number in [number for number, (kept, _) in self._kept.items() if kept.tenant_id == tenant_id]:
            self.forget(number)

    def forget_all(self) -> None:
        """Events may have been missed, as after a reconnect."""
        self._changes += 1
        self._kept.clear()

    async def _ask(self, phone_number_id: str) -> Credentials:
        request = GetSendingCredentialsRequest(phone_number_id=phone_number_id)
        try:
            answer = await self._channel.call(self._stub.GetSendingCredentials, request, timeout=5)
        except RemoteError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                raise NotConnected(phone_number_id) from error
            raise CredentialsUnavailable(error.reason) from error
        return Credentials(
            phone_number_id=answer.phone_number_id,
            tenant_id=uuid.UUID(answer.tenant_id),
            access_token=answer.access_token,
            messages_per_second=answer.messages_per_second or 80,
            tenant_suspended=answer.tenant_state != "active",
            token_version=answer.token_version,
        )
