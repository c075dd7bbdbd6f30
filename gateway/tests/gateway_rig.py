"""Runs the gateway and what stands behind it, and calls it as clients do."""

import asyncio
import json
import uuid
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from aerostic.auth.v1 import auth_service_pb2_grpc, invitation_service_pb2_grpc, member_service_pb2_grpc
from aerostic.messaging.v1 import (
    contact_service_pb2_grpc,
    conversation_service_pb2_grpc,
    dead_letter_service_pb2_grpc,
    message_service_pb2_grpc,
    parked_event_service_pb2_grpc,
)
from aerostic.tenants.v1 import (
    tenant_service_pb2_grpc,
    usage_service_pb2_grpc,
    whatsapp_account_service_pb2_grpc,
)
from gateway_peers import Files, Ingest, Recorder, play, serve_ingest
from yarl import URL

from gateway import main
from gateway.http_server import listen
from gateway.settings import GatewaySettings
from kit.testing.rpc import Authority, make_user, seed, serve

SECONDS = 20
SERVICES = {
    "auth": [
        auth_service_pb2_grpc.AuthServiceServicer,
        invitation_service_pb2_grpc.InvitationServiceServicer,
        member_service_pb2_grpc.MemberServiceServicer,
    ],
    "tenants": [
        tenant_service_pb2_grpc.TenantServiceServicer,
        usage_service_pb2_grpc.UsageServiceServicer,
        whatsapp_account_service_pb2_grpc.WhatsAppAccountServiceServicer,
    ],
    "messaging": [
        contact_service_pb2_grpc.ContactServiceServicer,
        conversation_service_pb2_grpc.ConversationServiceServicer,
        dead_letter_service_pb2_grpc.DeadLetterServiceServicer,
        message_service_pb2_grpc.MessageServiceServicer,
        parked_event_service_pb2_grpc.ParkedEventServiceServicer,
    ],
}


class Rig:
    """A running gateway."""

    def __init__(self, settings, http, *, port, stop, servers, recorder, files, ingest, authority) -> None:
        self.settings = settings
        self.http = http
        self.port = port
        self.stop = stop
        self.serving: asyncio.Task | None = None
        self.servers = servers
        self.recorder = recorder
        self.files = files
        self.ingest = ingest
        self.authority = authority
        self.tenant_id = uuid.uuid4()
        self.token = authority.user_token(make_user(tenant_id=self.tenant_id))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        self.recorder.clear()
        self.files.clear()
        self.ingest.seen.clear()
        self.ingest.status, self.ingest.body, self.ingest.waits, self.ingest.is_held = 200, b"", 0, False

    async def call(self, method: str, path: str, *, token: str | None = None, **options: Any) -> "Answer":
        """As the signed-in user, unless `token` is another or "" for none."""
        headers = dict(options.pop("headers", {}))
        token = self.token if token is None else token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        async with self.http.request(
            method, URL(f"{self.url}{path}", encoded=True), headers=headers, allow_redirects=False, **options
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> "Answer":
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: Any, **options: Any) -> "Answer":
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        return await self.call("POST", path, data=raw, headers=headers, **options)

    @asynccontextmanager
    async def connection(self):
        """A bare connection, for what no client library would send."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        return self.json["code"]

    @property
    def wrong(self) -> list[tuple[str, str]]:
        """Field and rule of each violation."""
        return [(error["field"], error["rule"]) for error in self.json["errors"]]


@asynccontextmanager
async def run(nats_url: str, *, targets: dict[str, str] | None = None, nats_port: int = 0, **overrides: Any):
    """Everything, until the block ends. `targets` replaces the addresses of services, `nats_port` that of NATS."""
    if nats_port:
        nats_url = str(URL(nats_url).with_port(nats_port))
    authority, recorder, ingest = Authority(["gateway"]), Recorder(), Ingest([])
    files = Files(recorder)
    async with AsyncExitStack() as stack:
        servers = {}
        for name, servicers in SERVICES.items():
            played = [play(each, recorder) for each in servicers]
            if name == "messaging":
                played.append(files)
            servers[name] = await stack.enter_async_context(serve(*played, authority=authority))
        ingest_url = await stack.enter_async_context(serve_ingest(ingest))
        wanted = {name: rpc.target for name, rpc in servers.items()} | (targets or {})
        settings = GatewaySettings(
            AEROSTIC_NATS_URL=nats_url,
            AEROSTIC_SERVICE_KEY=seed("gateway"),
            AEROSTIC_AUTH_TARGET=wanted["auth"],
            AEROSTIC_TENANTS_TARGET=wanted["tenants"],
            AEROSTIC_MESSAGING_TARGET=wanted["messaging"],
            **{"ingest_url": ingest_url, "drain_seconds": 5, **overrides},
        )
        listener, stop = listen("127.0.0.1", 0), asyncio.Event()
        http = await stack.enter_async_context(
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=SECONDS), auto_decompress=False
            )
        )
        rig = Rig(
            settings,
            http,
            port=listener.getsockname()[1],
            stop=stop,
            servers=servers,
            recorder=recorder,
            files=files,
            ingest=ingest,
            authority=authority,
        )
        rig.serving = asyncio.create_task(main.serve_on([listener], settings, stop))
        await until_alive(rig)
        try:
            yield rig
        finally:
            stop.set()
            async with asyncio.timeout(SECONDS):
                await rig.serving


async def until_alive(rig: Rig) -> None:
    async with asyncio.timeout(SECONDS):
        while not rig.serving.done():
            with suppress(OSError, aiohttp.ClientError):
                async with rig.http.get(f"{rig.url}/healthz", timeout=aiohttp.ClientTimeout(total=1)) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.02)
    await rig.serving


async def until(condition, *, seconds: float = SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (what is waited for is no event of ours)
            await asyncio.sleep(0.01)
