"""The running server with everybody who calls it, and svc-tenants as far as it is asked.

`async with serving(app_db, sql, server_bus) as service` for a server of one's own; the fixture `service` is shared.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import messaging_factories as factories
import msgspec
import pytest
from aerostic.messaging.v1 import message_service_pb2 as messages_pb
from aerostic.messaging.v1.contact_service_pb2_grpc import ContactServiceStub
from aerostic.messaging.v1.conversation_service_pb2_grpc import ConversationServiceStub
from aerostic.messaging.v1.dead_letter_service_pb2_grpc import DeadLetterServiceStub
from aerostic.messaging.v1.erasure_service_pb2_grpc import ErasureServiceStub
from aerostic.messaging.v1.media_service_pb2_grpc import MediaServiceStub
from aerostic.messaging.v1.message_service_pb2_grpc import MessageServiceStub
from aerostic.messaging.v1.parked_event_service_pb2_grpc import ParkedEventServiceStub
from aerostic.tenants.v1 import whatsapp_account_service_pb2 as accounts_pb
from aerostic.tenants.v1.whatsapp_account_service_pb2_grpc import WhatsAppAccountServiceServicer
from grpc import StatusCode

from kit import events
from kit.bus import Bus
from kit.db import Database
from kit.errors import AppError, RemoteError
from kit.grpc_client import Channel
from kit.ids import new_id
from kit.principal import Principal
from kit.testing.rpc import Caller, Rpc, serve
from svc_messaging import send_commands
from svc_messaging.queues import Queues
from svc_messaging.server import process
from svc_messaging.server.workspaces import Workspaces

PARTITIONS = 4
_UNTIL_SECONDS = 60


class TenantNotFound(AppError):
    code, reason = StatusCode.NOT_FOUND, "TENANT_NOT_FOUND"


@dataclass
class Tenants(WhatsAppAccountServiceServicer):
    """svc-tenants: every workspace has the numbers that a test gave it; one without any is unknown."""

    numbers: dict[str, dict[str, str]] = field(default_factory=dict)
    """Tenant to WhatsApp account to phone number id."""
    suspended: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    failure: AppError | None = None
    """What it answers instead."""

    def connect(self, tenant_id: uuid.UUID, account_id: uuid.UUID, phone_number_id: str) -> None:
        self.numbers.setdefault(str(tenant_id), {})[str(account_id)] = phone_number_id

    async def ListTenantNumbers(self, request: Any, context: Any) -> Any:
        tenant_id = request.tenant_id
        self.asked.append(tenant_id)
        if self.failure:
            raise self.failure
        if tenant_id not in self.numbers:
            raise TenantNotFound("There is no such workspace.")
        return accounts_pb.ListTenantNumbersResponse(
            tenant_state="suspended" if tenant_id in self.suspended else "active",
            numbers=[
                accounts_pb.ResolvedNumber(
                    tenant_id=tenant_id, whatsapp_account_id=account_id, phone_number_id=phone_number_id
                )
                for account_id, phone_number_id in self.numbers[tenant_id].items()
            ],
        )


class PatientChannel(Channel):
    """To a svc-tenants of the tests, which is slow where the machine is: what waits for it in the product gives up
    after seconds.
    """

    async def call(self, method: Any, request: Any, *, timeout: float, **named: Any) -> Any:
        return await super().call(method, request, timeout=max(timeout, _UNTIL_SECONDS), **named)


@dataclass
class Service:
    """A running server, and a look behind it."""

    rpc: Rpc
    tenants: Tenants
    workspaces: Workspaces
    db: Database
    sql: asyncpg.Connection

    def __post_init__(self) -> None:
        self.contacts = self.rpc.stub(ContactServiceStub)
        self.conversations = self.rpc.stub(ConversationServiceStub)
        self.messages = self.rpc.stub(MessageServiceStub)
        self.media = self.rpc.stub(MediaServiceStub)
        self.parked_events = self.rpc.stub(ParkedEventServiceStub)
        self.dead_letters = self.rpc.stub(DeadLetterServiceStub)
        self.erasure = self.rpc.stub(ErasureServiceStub)

    def agent(self, tenant_id: uuid.UUID) -> Caller:
        return self.rpc.user(tenant_id=tenant_id, role="agent")

    def inside(self, tenant_id: uuid.UUID) -> Any:
        """A transaction of the application's role in one tenant."""
        return self.db.begin(Principal.service("tests").on_behalf_of(tenant_id))

    async def conversation(self, tenant_id: uuid.UUID, **columns: Any) -> asyncpg.Record:
        """An open conversation of a connected number, in which the customer wrote just now."""
        row = await factories.make_conversation(self.sql, tenant_id, **columns)
        self.tenants.connect(tenant_id, row["whatsapp_account_id"], row["phone_number_id"])
        return row

    def number(self, tenant_id: uuid.UUID) -> tuple[uuid.UUID, str]:
        """Connect a number: its account's id and its own."""
        account_id, phone_number_id = new_id(), str(uuid.uuid4().int % 10**15)
        self.tenants.connect(tenant_id, account_id, phone_number_id)
        return account_id, phone_number_id

    async def send(self, tenant_id: uuid.UUID, conversation: Any, **fields: Any) -> Any:
        """Send as some agent; a text unless the fields say what."""
        return await self.agent(tenant_id).call(self.messages.SendMessage, to_send(conversation, **fields))

    async def start(self, tenant_id: uuid.UUID, **fields: Any) -> Any:
        return await self.agent(tenant_id).call(self.messages.StartConversation, to_start(**fields))

    async def commands(self, tenant_id: uuid.UUID) -> list[dict[str, Any]]:
        """The tenant's commands that wait to be published, in order, each with its subject."""
        rows = await self.sql.fetch("SELECT subject, data FROM outbox WHERE subject LIKE 'send.%' ORDER BY id")
        found = [(row["subject"], command) for row in rows for command in send_commands.decode(row["data"])]
        return [
            {"subject": subject, **msgspec.to_builtins(command)}
            for subject, command in found
            if command.tenant_id == tenant_id
        ]

    async def events(self, tenant_id: uuid.UUID) -> list[tuple[str, dict[str, Any]]]:
        """Kinds and data of the tenant's events that wait to be published, in order."""
        query = "SELECT headers, data FROM outbox WHERE subject LIKE $1 ORDER BY id"
        rows = await self.sql.fetch(query, f"events.%.{tenant_id}")
        told = [event for row in rows for event in events.decode(json.loads(row["headers"]), row["data"])]
        return [(event.kind, event.data) for event in told]

    async def assert_nothing_sent(self, tenant_id: uuid.UUID) -> None:
        assert await self.commands(tenant_id) == []
        assert await self.events(tenant_id) == []
        sent = "SELECT count(*) FROM messages WHERE tenant_id = $1 AND direction = 'outbound' AND status = 'queued'"
        assert await self.sql.fetchval(sent, tenant_id) == 0
        assert await self.count("send_requests", tenant_id) == 0

    async def count(self, table: str, tenant_id: uuid.UUID) -> int:
        return await self.sql.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id = $1", tenant_id)


TEMPLATE = {"name": "order_update", "language": "en_US"}


def to_send(conversation: Any, **fields: Any) -> Any:
    """A text unless the fields say what. `conversation`: its row or its id."""
    conversation_id = conversation["id"] if isinstance(conversation, asyncpg.Record) else conversation
    if not fields.keys() & {"text", "image", "template"}:
        fields["text"] = {"body": "We have it."}
    return messages_pb.SendMessageRequest(conversation_id=str(conversation_id), **fields)


def to_start(**fields: Any) -> Any:
    """The template TEMPLATE to a number of its own unless the fields say otherwise."""
    return messages_pb.StartConversationRequest(**{"to": some_phone(), "template": TEMPLATE, **fields})


def some_phone() -> str:
    return f"+1650{uuid.uuid4().int % 10**9:09}"


async def refusal(call: Awaitable[Any]) -> RemoteError:
    """What a call is refused with."""
    with pytest.raises(RemoteError) as refused:
        await call
    return refused.value


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """What the condition gives once it gives anything; fails when that takes too long for any machine."""
    deadline = time.monotonic() + _UNTIL_SECONDS
    while not (found := await condition()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return found


@asynccontextmanager
async def serving(
    db: Database, sql: asyncpg.Connection, bus: Bus, *, number_max: int = 10_000, kept_seconds: float = 10
) -> AsyncIterator[Service]:
    tenants = Tenants()
    async with serve(tenants) as behind:
        identity = behind.authority.identities["messaging-server"]
        async with PatientChannel(behind.target, identity) as channel:
            workspaces = Workspaces(channel, kept_seconds=kept_seconds)
            servicers = process.servicers(db, workspaces, Queues(PARTITIONS, number_max), bus)
            async with serve(*servicers, translate=process.known_failure, domain=process.DOMAIN) as rpc:
                yield Service(rpc, tenants, workspaces, db, sql)


async def until_somebody_waits(sql) -> None:
    """Until a transaction of this database waits for another one's lock."""

    async def waits() -> bool:
        return await sql.fetchval(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )

    await until(waits)
