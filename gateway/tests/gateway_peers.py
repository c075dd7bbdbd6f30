"""What stands around the gateway in tests: services that a recorder plays, the ingest, and a line that can be cut."""

import asyncio
import hashlib
import importlib
import uuid
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aerostic.messaging.v1 import media_service_pb2_grpc
from aerostic.messaging.v1.media_service_pb2 import DownloadMediaResponse, Media
from aiohttp import web

from gateway.backends import find_method, message_class
from gateway.http_server import listen
from kit import answers
from kit.errors import AppError
from kit.principal import Principal, current_principal

MEDIA = "aerostic.messaging.v1.MediaService"
PATIENCE = 20


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
        self.printed: dict[str, dict[str, Any]] = {}
        """By method, what it prints itself."""

    def clear(self) -> None:
        self.calls.clear()
        self.answers.clear()
        self.printed.clear()

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
        message = message_class(method.output_type)() if answer is None else answer
        printed = self.printed.get(method.name)
        return message if printed is None else answers.either(lambda: message, lambda: printed)


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
            elif request.WhichOneof("part") == "chunk":
                self.uploaded += request.chunk
            else:
                self.is_whole = request.end.size_bytes == len(self.uploaded)
        return Media(id=str(uuid.uuid4()), mime_type=self.description.mime_type, size_bytes=len(self.uploaded))

    async def DownloadMedia(self, request, context):
        if self.refusal:
            raise self.refusal
        try:
            for number, chunk in enumerate(self.chunks):
                if number == self.fails_after:
                    raise RuntimeError("the disk is gone")
                if number == self.waits_after:
                    await asyncio.sleep(PATIENCE)
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
    is_held: bool = False
    """Whether no answer leaves for now."""

    async def take(self, request: web.Request) -> web.Response:
        self.seen.append((request.method, request.raw_path, await request.read(), dict(request.headers)))
        await asyncio.sleep(self.waits)
        while self.is_held:  # noqa: ASYNC110 (a test lets it go, and tells no one)
            await asyncio.sleep(0.01)
        headers = {"Content-Type": self.content_type} if self.body else {}
        return web.Response(status=self.status, body=self.body, headers=headers)


def play(servicer: type, recorder: Recorder) -> object:
    """The recorder as a servicer of this class's service."""
    module = servicer.__module__.removesuffix("_grpc")
    file = importlib.import_module(module).DESCRIPTOR
    service = file.services_by_name[servicer.__name__.removesuffix("Servicer")]

    def method_of(method):
        async def play(self, request, context):
            return await recorder.take(method, request, context)

        return play

    return type(f"Played{service.name}", (servicer,), {method.name: method_of(method) for method in service.methods})()


@asynccontextmanager
async def serve_ingest(ingest: Ingest):
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
