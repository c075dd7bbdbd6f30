"""svc-tenants as it runs: real PostgreSQL, real gRPC with all interceptors, the emulator as Meta at the end of a line
that the tests can listen to and cut.
"""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
from aerostic.tenants.v1 import tenant_service_pb2 as tenants_pb
from aerostic.tenants.v1 import whatsapp_account_service_pb2 as accounts_pb
from aerostic.tenants.v1.placement_service_pb2_grpc import PlacementServiceStub
from aerostic.tenants.v1.provisioning_service_pb2_grpc import ProvisioningServiceStub
from aerostic.tenants.v1.tenant_service_pb2_grpc import TenantServiceStub
from aerostic.tenants.v1.usage_service_pb2_grpc import UsageServiceStub
from aerostic.tenants.v1.whatsapp_account_service_pb2_grpc import WhatsAppAccountServiceStub
from aiohttp import web

from kit.crypto import KeyRing
from kit.db import Database, as_app_error
from kit.errors import RemoteError
from kit.keys import encode_key
from kit.principal import Principal
from kit.testing.rpc import Rpc, seed, serve
from meta_emulator import app as emulator_app
from meta_emulator import lifecycle
from meta_emulator.emulator import Emulator
from meta_emulator.model import Number, Token
from meta_emulator.numbers import Wish, create, issue_token
from meta_emulator.settings import Settings as EmulatorSettings
from svc_tenants.checker import Checker
from svc_tenants.connecting import Connector
from svc_tenants.graph import GraphClient
from svc_tenants.server import TenantServer, WhatsAppAccountServer
from svc_tenants.server_placement import PlacementServer
from svc_tenants.server_provisioning import ProvisioningServer
from svc_tenants.server_usage import UsageServer

APP_ID = "100000000000001"
APP_SECRET = "an-app-secret-for-tests"

Rule = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass
class Meta:
    """The emulator, and the line to it. A rule sees each call first and may answer in Meta's place."""

    emulator: Emulator
    url: str = ""
    emulator_url: str = ""
    rules: list[Rule] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    """METHOD and edge of each call, in order."""

    def number(self, *, waba_id: str = "", registered: bool = True, **traits: Any) -> "OwnNumber":
        """A number of a customer of Meta's, with a token that may use it."""
        number, token = create(self.emulator, Wish(waba_id=waba_id, registered=registered, **traits))
        return OwnNumber(self, number, token)

    def is_subscribed(self, waba_id: str) -> bool:
        return self.emulator.world.wabas[waba_id].subscription is not None

    def answer(self, edge: str, answer: Rule) -> None:
        """Answer calls to this edge ("GET debug_token") by a rule."""

        async def rule(request: web.Request) -> web.StreamResponse | None:
            return await answer(request) if _edge(request) == edge else None

        self.rules.append(rule)

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(_edge(request))
        for rule in self.rules:
            if (response := await rule(request)) is not None:
                return response
        return await self.ask_emulator(request)

    async def ask_emulator(self, request: web.Request) -> web.Response:
        headers = {"Authorization": request.headers["Authorization"]}
        async with (
            aiohttp.ClientSession() as http,
            http.request(request.method, f"{self.emulator_url}{request.path_qs}", headers=headers) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")


@dataclass
class OwnNumber:
    meta: Meta
    number: Number
    token: Token

    def request(self, **changes: str) -> accounts_pb.CreateWhatsAppAccountRequest:
        fields = {
            "waba_id": self.number.waba_id,
            "phone_number_id": self.number.id,
            "access_token": self.token.value,
        }
        return accounts_pb.CreateWhatsAppAccountRequest(**{**fields, **changes})

    def new_token(self) -> str:
        self.token = issue_token(self.meta.emulator, self.number)
        return self.token.value


def _edge(request: web.Request) -> str:
    last = request.path.rstrip("/").rpartition("/")[2]
    return f"{request.method} {'waba' if last.isdigit() else last}"


@asynccontextmanager
async def listening(application: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture
async def meta() -> AsyncIterator[Meta]:
    emulator = Emulator(EmulatorSettings(app_id=APP_ID, app_secret=APP_SECRET, verify_token="unused"))
    await lifecycle.start(emulator)
    meta = Meta(emulator)
    line = web.Application()
    line.router.add_route("*", "/{rest:.*}", meta.pass_on)
    async with listening(emulator_app.build(emulator)) as meta.emulator_url, listening(line) as meta.url:
        yield meta
    await lifecycle.stop(emulator)


@dataclass
class Installation:
    """A running svc-tenants, and everybody who calls it."""

    rpc: Rpc
    db: Database
    database: Any
    meta: Meta
    keys: KeyRing
    connector: Connector
    tenants: Any
    accounts: Any
    provisioning: Any
    usage: Any
    placement: Any

    async def tenant(self, display_name: str = "Acme Shoes") -> uuid.UUID:
        tenant_id = uuid.uuid4()
        request = tenants_pb.CreateTenantRequest(tenant_id=str(tenant_id), display_name=display_name)
        await self.rpc.service("svc-auth").call(self.tenants.CreateTenant, request)
        return tenant_id

    async def suspend(self, tenant_id: uuid.UUID, reason: str = "The invoice is open.") -> None:
        request = tenants_pb.SuspendTenantRequest(tenant_id=str(tenant_id), reason=reason)
        await self.super_admin.call(self.tenants.SuspendTenant, request)

    async def connect(self, tenant_id: uuid.UUID, number: OwnNumber, **changes: str) -> Any:
        return await self.admin(tenant_id).call(self.accounts.CreateWhatsAppAccount, number.request(**changes))

    async def disconnect(self, tenant_id: uuid.UUID, account_id: str) -> Any:
        request = accounts_pb.DeleteWhatsAppAccountRequest(whatsapp_account_id=account_id)
        return await self.admin(tenant_id).call(self.accounts.DeleteWhatsAppAccount, request)

    async def credentials(self, phone_number_id: str) -> Any:
        request = accounts_pb.GetSendingCredentialsRequest(phone_number_id=phone_number_id)
        return await self.rpc.service("messaging-sender").call(self.accounts.GetSendingCredentials, request)

    async def resolve(self, *phone_number_ids: str) -> Any:
        request = accounts_pb.ResolveNumbersRequest(phone_number_ids=phone_number_ids)
        answer = await self.rpc.service("messaging-inbox").call(self.accounts.ResolveNumbers, request)
        return {number.phone_number_id: number for number in answer.numbers}

    async def numbers(self, tenant_id: uuid.UUID) -> Any:
        """What the process that checks each send is told of a tenant."""
        request = accounts_pb.ListTenantNumbersRequest(tenant_id=str(tenant_id))
        return await self.rpc.service("messaging-server").call(self.accounts.ListTenantNumbers, request)

    async def listed(self, tenant_id: uuid.UUID) -> list[Any]:
        request = accounts_pb.ListWhatsAppAccountsRequest()
        answer = await self.admin(tenant_id).call(self.accounts.ListWhatsAppAccounts, request)
        return list(answer.whatsapp_accounts)

    @staticmethod
    async def refusal(call: Awaitable[Any]) -> RemoteError:
        """What a call is refused with."""
        with pytest.raises(RemoteError) as refused:
            await call
        return refused.value

    async def assert_nothing_connected(self, tenant_id: uuid.UUID) -> None:
        assert await self.listed(tenant_id) == []
        for table in ("whatsapp_accounts", "connected_numbers", "whatsapp_tokens", "data_keys"):
            assert await self.look(f"SELECT 1 FROM {table} WHERE tenant_id = $1", tenant_id) == [], table
        assert await self.events(tenant_id) == ["tenants.tenant.created"]
        assert await self.audit(tenant_id) == ["tenant.created"]

    def admin(self, tenant_id: uuid.UUID) -> Any:
        return self.rpc.user(tenant_id=tenant_id, role="admin")

    def agent(self, tenant_id: uuid.UUID) -> Any:
        return self.rpc.user(tenant_id=tenant_id, role="agent")

    @property
    def super_admin(self) -> Any:
        return self.rpc.user(role="super_admin")

    def inside(self, tenant_id: uuid.UUID) -> Any:
        """A transaction of the application's role in one tenant."""
        return self.db.begin(Principal.service("tests").on_behalf_of(tenant_id))

    async def look(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """What the tables hold, behind row-level security."""
        connection = await asyncpg.connect(self.database.superuser_url)
        try:
            return await connection.fetch(query, *args)
        finally:
            await connection.close()

    async def events(self, tenant_id: uuid.UUID) -> list[str]:
        """Kinds of the tenant's events that wait to be published, in order."""
        rows = await self.look("SELECT subject FROM outbox WHERE subject LIKE $1 ORDER BY id", f"%.{tenant_id}")
        return [row["subject"].removeprefix("events.").rpartition(".")[0] for row in rows]

    async def audit(self, tenant_id: uuid.UUID) -> list[str]:
        rows = await self.look("SELECT action FROM audit_log WHERE tenant_id = $1 ORDER BY id", tenant_id)
        return [row["action"] for row in rows]


def key_ring(*ids: str) -> KeyRing:
    return KeyRing.parse(",".join(f"{key_id}:{encode_key(seed(key_id))}" for key_id in ids))


@asynccontextmanager
async def installed(database: Any, meta: Meta, *, keys: KeyRing, **graph_options: Any) -> AsyncIterator[Installation]:
    db = await Database.connect(database.app_url, name="svc-tenants tests")
    graph = GraphClient(meta.url, "v24.0", **{"app_id": APP_ID, "app_secret": APP_SECRET, **graph_options})
    connector = Connector(db, graph, keys)
    servicers = (
        TenantServer(db),
        WhatsAppAccountServer(db, connector, keys),
        ProvisioningServer(db, connector),
        UsageServer(db),
        PlacementServer(db),
    )
    try:
        async with serve(*servicers, translate=as_app_error, domain="tenants.aerostic.io") as rpc:
            kinds = (
                TenantServiceStub,
                WhatsAppAccountServiceStub,
                ProvisioningServiceStub,
                UsageServiceStub,
                PlacementServiceStub,
            )
            stubs = [rpc.stub(kind) for kind in kinds]
            yield Installation(rpc, db, database, meta, keys, connector, *stubs)
    finally:
        await graph.close()
        await db.close()


@pytest_asyncio.fixture
async def tenant_id(installation: Installation) -> uuid.UUID:
    return await installation.tenant()


@pytest_asyncio.fixture
async def installation(postgres: Any, meta: Meta) -> AsyncIterator[Installation]:
    async with installed(postgres.database("tenants"), meta, keys=key_ring("k1")) as installation:
        yield installation


@pytest.fixture(name="key_ring")
def _key_ring() -> Callable[..., KeyRing]:
    return key_ring


@pytest.fixture
def install() -> Callable[..., Any]:
    """For tests that need an installation of their own: `async with install(database, meta, keys=key_ring("k2"))`."""
    return installed


@pytest_asyncio.fixture
async def checkers(installation: Installation) -> AsyncIterator[Callable[..., Checker]]:
    """`checkers(seconds=1)`: something that looks at connected numbers, as each process has one."""
    db = await Database.connect(installation.database.app_url, name="checkers of the tests")
    graph = GraphClient(installation.meta.url, "v24.0", app_id=APP_ID, app_secret=APP_SECRET, answer_seconds=5)
    yield lambda *, seconds=600: Checker(db, graph, installation.keys, seconds=seconds)
    await graph.close()
    await db.close()


@pytest_asyncio.fixture
async def be_due(installation: Installation) -> Callable[[], Awaitable[Any]]:
    """It is every number's turn, but for those that other tests have left: their Meta is gone."""
    others = [row["id"] for row in await installation.look("SELECT id FROM whatsapp_accounts")]
    await installation.look("UPDATE whatsapp_accounts SET check_after = now() + interval '1 day'")
    due = "UPDATE whatsapp_accounts SET check_after = now() WHERE NOT id = ANY ($1)"
    return lambda: installation.look(due, others)


@pytest.fixture
def look(be_due: Callable[[], Awaitable[Any]], checkers: Callable[..., Checker]) -> Callable[[], Awaitable[None]]:
    """Look at all connected numbers now."""
    checker = checkers()

    async def look() -> None:
        await be_due()
        await checker.look_at_all_due()

    return look


@pytest_asyncio.fixture
async def number(be_due: Any, installation: Installation, tenant_id: uuid.UUID, meta: Meta) -> OwnNumber:
    """A connected one."""
    number = meta.number()
    await installation.connect(tenant_id, number)
    return number
