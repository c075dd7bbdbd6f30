"""The real processes: serve, migrate and rewrap-keys as an operator starts them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import uuid

import aiohttp
import asyncpg
import nats
import pytest
from aerostic.auth.v1 import auth_service_pb2 as auth_pb
from aerostic.auth.v1.auth_service_pb2_grpc import AuthServiceServicer
from aerostic.tenants.v1 import tenant_service_pb2 as tenants_pb
from aerostic.tenants.v1 import whatsapp_account_service_pb2 as accounts_pb
from aerostic.tenants.v1.tenant_service_pb2_grpc import TenantServiceStub
from aerostic.tenants.v1.whatsapp_account_service_pb2_grpc import WhatsAppAccountServiceStub

from devstack.ports import PortClaims
from kit import events
from kit.errors import RemoteError
from kit.grpc_client import Channel
from kit.keys import encode_key
from kit.testing.rpc import Authority, Caller, make_user, seed, serve

APP_SECRET = "an-app-secret-for-tests"
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
    claims = PortClaims()
    yield claims
    claims.release()


def environment(**settings):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AEROSTIC_")}
    return clean | {f"AEROSTIC_{name}": str(value) for name, value in settings.items()}


async def start(command, **settings):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "svc_tenants", command),
        env=environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def run(command, **settings):
    process = await start(command, **settings)
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    return process.returncode, output.decode()


async def until(condition):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := await condition()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return found


def keys(*ids):
    return ",".join(f"{key_id}:{encode_key(seed(key_id))}" for key_id in ids)


@pytest.fixture
async def database(postgres):
    database = postgres.fresh_database("tenants")
    yield database
    database.drop()


def serve_settings(database, meta, auth, authority, nats_url, ports):
    trusted = {name: encode_key(identity.public_key_bytes) for name, identity in authority.identities.items()}
    return {
        "TENANTS_DATABASE_URL": database.app_url,
        "TENANTS_PORT": ports.claim(),
        "TENANTS_METRICS_PORT": ports.claim(),
        "TENANTS_GRAPH_URL": meta.url,
        "TENANTS_APP_ID": "100000000000001",
        "TENANTS_APP_SECRET": APP_SECRET,
        "TENANTS_KEY_ENCRYPTION_KEYS": keys("k1"),
        "AUTH_TARGET": auth.target,
        "NATS_URL": nats_url,
        "SERVICE_KEY": encode_key(seed("svc-tenants")),
        "SERVICE_TRUST": json.dumps(trusted),
        "LOG_LEVEL": "debug",
    }


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_serve_publishes_each_event_once_and_logs_no_secret(database, nats_server, meta, ports, log_format):
    await nats_server.clear()
    authority = Authority(["svc-tenants"])
    async with serve(Auth(authority), authority=authority) as auth:
        settings = serve_settings(database, meta, auth, authority, nats_server.url, ports)
        process = await start("serve", **settings, LOG_FORMAT=log_format)
        output = asyncio.create_task(process.stdout.read())
        try:
            tenant_id = uuid.uuid4()
            tokens = await use(authority, settings, meta, tenant_id)
            kinds = [
                "tenants.tenant.created",
                "tenants.whatsappaccount.connected",
                "tenants.whatsappaccount.updated",
                "tenants.whatsappaccount.disconnected",
            ]
            received = await published(nats_server.url, tenant_id, len(kinds))
        finally:
            process.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(process.wait(), DEADLINE_SECONDS)
    logged = (await output).decode()
    assert code == 0, logged
    assert [event.kind for event in received] == kinds
    assert "rpc_completed" in logged
    assert "rpc_failed" in logged
    for secret in (*tokens, APP_SECRET, encode_key(seed("k1")), settings["TENANTS_DATABASE_URL"]):
        assert secret not in logged
        assert secret not in json.dumps([event.data for event in received])


async def use(authority, settings, meta, tenant_id):
    """Connect, be refused, find Meta away, break the stored key, disconnect. Gives every token that was sent."""
    async with Channel(f"127.0.0.1:{settings['TENANTS_PORT']}") as channel:
        tenants, accounts = channel.stub(TenantServiceStub), channel.stub(WhatsAppAccountServiceStub)
        # First, as the tokens of services last a minute.
        await until(lambda: is_ready(settings["TENANTS_METRICS_PORT"]))
        svc_auth = Caller(channel, authority.identities["svc-auth"].token(), None)
        sender = Caller(channel, authority.identities["messaging-sender"].token(), None)
        admin = Caller(channel, authority.user_token(make_user(tenant_id=tenant_id, role="admin")), None)
        request = tenants_pb.CreateTenantRequest(tenant_id=str(tenant_id), display_name="Acme")
        await svc_auth.call(tenants.CreateTenant, request)
        number = meta.number()
        tokens = ["EAAa-token-that-nobody-knows", number.token.value]
        account = await admin.call(accounts.CreateWhatsAppAccount, number.request())
        with pytest.raises(RemoteError, match="Cannot parse access token"):
            await admin.call(accounts.CreateWhatsAppAccount, number.request(access_token=tokens[0]))
        tokens.append(number.new_token())
        await admin.call(accounts.CreateWhatsAppAccount, number.request())
        meta.answer("GET waba", hang_up)
        with pytest.raises(RemoteError, match="Meta did not answer"):
            await admin.call(accounts.CreateWhatsAppAccount, number.request())
        meta.rules.clear()
        credentials = accounts_pb.GetSendingCredentialsRequest(phone_number_id=number.number.id)
        assert (await sender.call(accounts.GetSendingCredentials, credentials)).access_token == tokens[-1]
        await break_data_keys(settings["TENANTS_DATABASE_URL"], tenant_id)
        with pytest.raises(RemoteError, match="went wrong on our side"):
            await sender.call(accounts.GetSendingCredentials, credentials)
        meta.answer("DELETE subscribed_apps", hang_up)
        delete = accounts_pb.DeleteWhatsAppAccountRequest(whatsapp_account_id=account.id)
        await admin.call(accounts.DeleteWhatsAppAccount, delete)
        return tokens


async def hang_up(request):
    request.transport.close()


async def is_ready(port):
    with contextlib.suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/readyz") as ready:
            return ready.status == 200


async def break_data_keys(app_url, tenant_id):
    connection = await asyncpg.connect(app_url)
    async with connection.transaction():
        await connection.execute("SELECT set_config('app.tenant_id', $1, true)", str(tenant_id))
        await connection.execute("UPDATE data_keys SET wrapped = '\\x00'")
    await connection.close()


async def published(nats_url, tenant_id, count):
    """The tenant's events, when that many are in the stream; and there are no more."""
    client = await nats.connect(nats_url)
    try:
        subject = f"events.*.*.*.{tenant_id}"
        js = client.jetstream()
        subscription = await js.subscribe(subject, ordered_consumer=True)
        messages = [await subscription.next_msg(timeout=DEADLINE_SECONDS) for _ in range(count)]
        info = await js.stream_info("EVENTS", subjects_filter=subject)
        assert sum(info.state.subjects.values()) == count
        return [event for message in messages for event in events.decode(message.headers, message.data)]
    finally:
        await client.close()


async def test_rewrap_keys_tells_how_many_it_wrapped(database, meta, install, key_ring):
    number = meta.number()
    async with install(database, meta, keys=key_ring("old")) as installation:
        await installation.connect(await installation.tenant(), number)
    settings = {"TENANTS_DATABASE_URL": database.app_url}
    code, output = await run("rewrap-keys", **settings, TENANTS_KEY_ENCRYPTION_KEYS=keys("new", "old"))
    assert (code, output) == (0, "1 data keys wrapped by the key new.\n")
    code, output = await run("rewrap-keys", **settings, TENANTS_KEY_ENCRYPTION_KEYS=keys("other"))
    assert code == 1
    assert "1 workspaces have a data key that these keys cannot open; keep the old keys." in output
    async with install(database, meta, keys=key_ring("new")) as installation:
        assert (await installation.credentials(number.number.id)).access_token == number.token.value


async def test_serve_refuses_a_database_without_its_schema(postgres, nats_server, meta, ports):
    database, authority = postgres.empty_database("tenants"), Authority(["svc-tenants"])
    async with serve(Auth(authority), authority=authority) as auth:
        settings = serve_settings(database, meta, auth, authority, nats_server.url, ports)
        code, output = await run("serve", **settings)
    assert code == 1
    assert "run `migrate`" in output
    database.drop()


async def test_migrating_twice_is_the_same_as_once(database):
    code, _ = await run("migrate", TENANTS_OWNER_DATABASE_URL=database.owner_url)
    assert code == 0


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("AEROSTIC_TENANTS_GRAF_URL is no setting; did you mean", {"TENANTS_GRAF_URL": "x"}),
        ("AEROSTIC_TENANTS_DATABASE_URL is not set", {}),
        ("AEROSTIC_TENANTS_KEY_ENCRYPTION_KEYS: each key must be written", {"TENANTS_KEY_ENCRYPTION_KEYS": "secret"}),
        ("AEROSTIC_TENANTS_APP_SECRET: belongs together with", {"TENANTS_APP_ID": "123"}),
        ("AEROSTIC_TENANTS_APP_SECRET: needed in production", {"ENVIRONMENT": "production"}),
        ("AEROSTIC_TENANTS_GRAPH_VERSION", {"TENANTS_GRAPH_VERSION": "24"}),
    ],
)
async def test_a_mistaken_setting_is_named(words, settings):
    code, output = await run("serve", **settings)
    assert code == 1
    assert words in output
    assert "Traceback" not in output
