"""Runs the gateway and what stands behind it, and calls it as clients do."""

import asyncio
import hashlib
import json
import uuid
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from aerostic.auth.v1 import auth_service_pb2_grpc, member_service_pb2_grpc
from aerostic.messaging.v1 import (
    contact_service_pb2_grpc,
    conversation_service_pb2_grpc,
    media_service_pb2_grpc,
    message_service_pb2_grpc,
    parked_event_service_pb2_grpc,
)
from aerostic.messaging.v1.media_service_pb2 import DownloadMediaResponse, Media
from aerostic.tenants.v1 import tenant_service_pb2_grpc, whatsapp_account_service_pb2_grpc
from aiohttp import web
from yarl import URL

from gateway import main
from gateway.backends import find_method, message_class
from gateway.http_server import listen
from gateway.settings import GatewaySettings
from kit.errors import AppError
from kit.principal import Principal, current_principal
from kit.testing.rpc import Authority, make_user, seed, serve

SECONDS = 20
MEDIA = "aerostic.messaging.v1.MediaService"
SERVICES = {
    "auth": [auth_service_pb2_grpc.AuthServiceServicer, member_service_pb2_grpc.MemberServiceServicer],
    "tenants": [
        tenant_service_pb2_grpc.TenantServiceServicer,
        whatsapp_account_service_pb2_grpc.WhatsAppAccountServiceServicer,
    ],
    "messaging": [
        contact_service_pb2_grpc.ContactServiceServicer,
        conversation_service_pb2_grpc.ConversationServiceServicer,
        message_service_pb2_grpc.MessageServiceServicer,
        parked_event_service_pb2_grpc.ParkedEventServiceServicer,
    ],
}


@dataclass
class Call:
    """What a service was asked."""

    name: str
    request: Any
    principal: Principal
    metadata: dict[str, str]


class Recorder:
    """Plays every unary method: remembers the call, and answers what the test says, or an empty message."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answers: dict[str, Any] = {}

    def clear(self) -> None:
        self.calls.clear()
        self.answers.clear()

    @property
    def call(self) -> Call:
        [call] = self.calls
        return call

    async def take(self, method, request, context) -> Any:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        self.calls.append(Call(method.name, request, current_principal(), metadata))
        answer = self.answers.get(method.name)
        if callable(answer):
            answer = await answer(request)
        if isinstance(answer, AppError):
            raise answer
        return message_class(method.output_type)() if answer is None else answer


class Files(media_service_pb2_grpc.MediaServiceServicer):
    """svc-messaging's files, in memory, with ways to fail."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.clear()

    def clear(self) -> None:
        self.description: Any = None
        self.uploaded = bytearray()
        self.is_whole = False
        self.refusal: AppError | None = None
        self.media = Media()
        self.chunks: list[bytes] = []
        self.fails_after: int | None = None
        self.waits_after: int | None = None
        self.downloads_ended = 0

    def hold(self, data: bytes, *, mime_type: str = "image/png", filename: str = "", chunk: int = 1000) -> str:
        media_id = str(uuid.uuid4())
        self.media = Media(
            id=media_id,
            mime_type=mime_type,
            filename=filename,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        self.chunks = [data[start : start + chunk] for start in range(0, len(data), chunk)] or [b""]
        return f"/v1/media/{media_id}/content"

    async def GetMedia(self, request, context):
        return await self._recorder.take(find_method(f"{MEDIA}.GetMedia").descriptor, request, context)

    async def RetryMedia(self, request, context):
        return await self._recorder.take(find_method(f"{MEDIA}.RetryMedia").descriptor, request, context)

    async def UploadMedia(self, request_iterator, context):
        async for request in request_iterator:
            if request.WhichOneof("part") == "description":
                self.description = request.description
                if self.refusal:
                    raise self.refusal
            else:
                self.uploaded += request.chunk
        self.is_whole = True
        return Media(id=str(uuid.uuid4()), mime_type=self.description.mime_type, size_bytes=len(self.uploaded))

    async def DownloadMedia(self, request, context):
        if self.refusal:
            raise self.refusal
        try:
            for number, chunk in enumerate(self.chunks):
                if number == self.fails_after:
                    raise RuntimeError("the disk is gone")
                if number == self.waits_after:
                    await asyncio.sleep(SECONDS)
                yield DownloadMediaResponse(chunk=chunk, media=None if number else self.media)
        finally:
            self.downloads_ended += 1


@dataclass
class Ingest:
    """Stands where svc-webhooks stands; keeps what came."""

    seen: list[tuple[str, str, bytes, dict[str, str]]]
    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    waits: float = 0

    async def take(self, request: web.Request) -> web.Response:
        self.seen.append((request.method, request.raw_path, await request.read(), dict(request.headers)))
        await asyncio.sleep(self.waits)
        headers = {"Content-Type": self.content_type} if self.body else {}
        return web.Response(status=self.status, body=self.body, headers=headers)


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
        self.ingest.status, self.ingest.body, self.ingest.waits = 200, b"", 0

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
            played = [_played(each, recorder) for each in servicers]
            if name == "messaging":
                played.append(files)
            servers[name] = await stack.enter_async_context(serve(*played, authority=authority))
        ingest_url = await stack.enter_async_context(_serve_ingest(ingest))
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


@asynccontextmanager
async def passage_to(port: int):
    """A port that leads to another until it is cut; gives both the port and how to cut it."""
    leading: set[asyncio.Task] = set()
    is_cut = asyncio.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        leading.add(asyncio.current_task())
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        ways = [pump(reader, there_writer), pump(there_reader, writer), is_cut.wait()]
        tasks = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for each in (writer, there_writer):
            each.close()
            with suppress(OSError):
                await each.wait_closed()

    def cut() -> None:
        is_cut.set()
        server.close()

    server = await asyncio.start_server(lead, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], cut
    finally:
        cut()
        if leading:
            await asyncio.wait(leading)


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


def _played(servicer: type, recorder: Recorder) -> object:
    """The recorder as a servicer of this class's service."""
    module = servicer.__module__.removesuffix("_grpc")
    file = sys_module(module).DESCRIPTOR
    service = file.services_by_name[servicer.__name__.removesuffix("Servicer")]

    def method_of(method):
        async def play(self, request, context):
            return await recorder.take(method, request, context)

        return play

    return type(f"Played{service.name}", (servicer,), {method.name: method_of(method) for method in service.methods})()


def sys_module(name: str) -> Any:
    import importlib

    return importlib.import_module(name)


@asynccontextmanager
async def _serve_ingest(ingest: Ingest):
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/webhooks/meta", ingest.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    listener = listen("127.0.0.1", 0)
    await web.SockSite(runner, listener).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await runner.cleanup()
