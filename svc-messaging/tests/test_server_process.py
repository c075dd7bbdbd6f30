"""The real process `serve`, as an operator starts it, with svc-auth and svc-tenants as far as it asks them."""

import asyncio
import contextlib
import json
import os
import signal
import sys

import aiohttp
import pytest
from aerostic.auth.v1 import auth_service_pb2 as auth_pb
from aerostic.auth.v1.auth_service_pb2_grpc import AuthServiceServicer
from aerostic.messaging.v1 import conversation_service_pb2 as conversations_pb
from aerostic.messaging.v1.conversation_service_pb2_grpc import ConversationServiceStub
from aerostic.messaging.v1.message_service_pb2_grpc import MessageServiceStub
from messaging_factories import make_conversation
from messaging_rpc import Tenants, to_send, until

from devstack.ports import PortClaims
from kit.bus import Bus
from kit.errors import RemoteError
from kit.events import Event, outgoing
from kit.grpc_client import Channel
from kit.keys import encode_key
from kit.partitions import partition_of
from kit.testing.rpc import Authority, Caller, make_user, seed, serve

DEADLINE_SECONDS = 60


class Auth(AuthServiceServicer):
    """svc-auth, as far as its public keys go."""

    def __init__(self, authority):
        self._authority = authority

    async def GetJwks(self, request, context):
        [jwk] = (await self._authority.jwks()).keys
        return auth_pb.Jwks(keys=[auth_pb.Jwk(kty=jwk.kty, crv=jwk.crv, kid=jwk.kid, x=jwk.x)])


@pytest.fixture
def ports():
    """That nobody else takes before the process does."""
    claims = PortClaims()
    yield claims
    claims.release()


async def start(**settings):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AEROSTIC_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "svc_messaging", "serve"),
        env=clean | {f"AEROSTIC_{name}": str(value) for name, value in settings.items()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


def settings_of(database, nats_url, ports, *, behind, authority):
    trusted = {name: encode_key(identity.public_key_bytes) for name, identity in authority.identities.items()}
    return {
        "MESSAGING_DATABASE_URL": database.app_url,
        "MESSAGING_PORT": ports.claim(),
        "MESSAGING_METRICS_PORT": ports.claim(),
        "AUTH_TARGET": behind.target,
        "TENANTS_TARGET": behind.target,
        "NATS_URL": nats_url,
        "SERVICE_KEY": encode_key(seed("messaging-server")),
        "SERVICE_TRUST": json.dumps(trusted),
        "SEND_PARTITIONS": 3,
    }


async def is_ready(port):
    with contextlib.suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/readyz") as ready:
            return ready.status == 200


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_serve_answers_sends_hears_of_changes_and_stops_in_order(
    database, nats, ports, sql, tenant_id, log_format
):
    authority, tenants = Authority(), Tenants()
    conversation = await make_conversation(sql, tenant_id)
    tenants.connect(tenant_id, conversation["whatsapp_account_id"], conversation["phone_number_id"])
    async with serve(Auth(authority), tenants, authority=authority) as behind:
        settings = settings_of(database, nats, ports, behind=behind, authority=authority)
        process = await start(**settings, LOG_FORMAT=log_format)
        output = asyncio.create_task(process.stdout.read())
        try:
            await until(lambda: is_ready(settings["MESSAGING_METRICS_PORT"]))
            async with Channel(f"127.0.0.1:{settings['MESSAGING_PORT']}") as channel:
                agent = Caller(channel, authority.user_token(make_user(tenant_id=tenant_id, role="agent")), None)
                await use(agent, sql, conversation, nats, tenants)
        finally:
            process.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(process.wait(), DEADLINE_SECONDS)
    logged = (await output).decode()
    assert code == 0, logged
    assert "rpc_failed" not in logged
    assert "server_stopped" in logged
    for secret in (settings["SERVICE_KEY"], database.app_url, agent.token):
        assert secret not in logged


async def use(agent, sql, conversation, nats, tenants):
    """Read, send, and be refused once the workspace is suspended."""
    tenant_id = conversation["tenant_id"]
    conversations, messages = agent.channel.stub(ConversationServiceStub), agent.channel.stub(MessageServiceStub)
    listed = await agent.call(conversations.ListConversations, conversations_pb.ListConversationsRequest())
    assert [each.id for each in listed.conversations] == [str(conversation["id"])]
    message = await agent.call(messages.SendMessage, to_send(conversation))
    query = "SELECT subject FROM outbox WHERE message_id = $1::text::uuid"
    assert await sql.fetchval(query, message.id) == f"send.live.{partition_of(conversation['phone_number_id'], 3)}"
    tenants.suspended.add(str(tenant_id))
    bus = await Bus.connect(nats, name="tests")
    [sent] = outgoing([Event("tenants.tenant.suspended", tenant_id, f"tenants/{tenant_id}", {})])
    await bus.client.publish(sent.subject, sent.data, headers=sent.headers)
    await bus.close()
    # Heard as an event at once, noticed without one after seconds.
    await until(lambda: is_suspended(agent, messages, conversation))


async def is_suspended(agent, messages, conversation):
    try:
        await agent.call(messages.SendMessage, to_send(conversation))
    except RemoteError as error:
        return error.reason == "TENANT_SUSPENDED"


async def test_serve_refuses_a_database_without_its_schema(postgres, nats, ports):
    database, authority = postgres.empty_database("messaging"), Authority()
    async with serve(Auth(authority), authority=authority) as behind:
        process = await start(**settings_of(database, nats, ports, behind=behind, authority=authority))
        output, _ = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    assert process.returncode == 1
    assert "run `migrate`" in output.decode()
    database.drop()


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("AEROSTIC_MESSAGING_PROT is no setting; did you mean", {"MESSAGING_PROT": "1"}),
        ("AEROSTIC_MESSAGING_DATABASE_URL is not set", {}),
        ("AEROSTIC_MESSAGING_NUMBER_QUEUE_MAX", {"MESSAGING_NUMBER_QUEUE_MAX": "0"}),
    ],
)
async def test_a_mistaken_setting_is_named(words, settings):
    process = await start(**settings)
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    assert process.returncode == 1
    assert words in output.decode()
    assert "Traceback" not in output.decode()
