"""A contract with every kind of method, compiled when tests start, and a servicer that does what a request asks."""

import asyncio
import atexit
import json
import shutil
import sys
import tempfile
from pathlib import Path

import aerostic
from grpc_tools import protoc

_HERE = Path(__file__).parent
_IMAGE = Path(next(iter(aerostic.__path__))).parent / "aerostic.binpb"


def _compile() -> None:
    built = tempfile.mkdtemp(prefix="echo-proto-")
    atexit.register(shutil.rmtree, built, ignore_errors=True)
    arguments = [f"--descriptor_set_in={_IMAGE}", f"--proto_path={_HERE}"]
    outputs = [f"--python_out={built}", f"--grpc_python_out={built}"]
    assert protoc.main(["protoc", *arguments, *outputs, "echo.proto"]) == 0
    sys.path.insert(0, built)


_compile()

import echo_pb2 as pb  # noqa: E402
import echo_pb2_grpc as stubs  # noqa: E402
import grpc  # noqa: E402
from opentelemetry import trace  # noqa: E402

from kit import deadlines, request_ids  # noqa: E402
from kit.errors import AppError, Unavailable, Violation  # noqa: E402
from kit.principal import current_principal  # noqa: E402


class Broken(Exception):
    """Known to the tests' `translate`: an outage of what the servicer stands on."""


def translate(error: BaseException) -> AppError | None:
    return Unavailable("The shelf is away; try again shortly.") if isinstance(error, Broken) else None


class ShelfFull(AppError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "SHELF_FULL"


class EchoServer(stubs.EchoServiceServicer):
    """`started` and `release` let a test hold a call, `crowded` tells of a second one; `calls` counts them by verb."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.started = asyncio.Event()
        self.crowded = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.peer = None

    async def Greet(self, request, context):
        return await self._do(request)

    async def WhoAmI(self, request, context):
        return await self._do(request)

    async def Send(self, request, context):
        return await self._do(request)

    async def Manage(self, request, context):
        return await self._do(request)

    async def Inside(self, request, context):
        return await self._do(request)

    async def InsideAny(self, request, context):
        return await self._do(request)

    async def Unsaid(self, request, context):
        return await self._do(request)

    async def Contradictory(self, request, context):
        return await self._do(request)

    async def Count(self, request, context):
        self.started.set()
        try:
            for number in range(request.page_size):
                if request.verb == "fail" and number == 2:
                    raise ShelfFull("No third place.")
                if request.verb == "hold" and number == 2:
                    await self.release.wait()
                yield pb.Echo(number=number, chunk=request.chunk)
        finally:
            self.cancelled.set()

    async def Join(self, requests, context):
        texts = [request.short_text async for request in requests]
        return pb.Echo(text=",".join(texts))

    async def _do(self, request):
        self.calls[request.verb] = self.calls.get(request.verb, 0) + 1
        self.started.set()
        if self.calls[request.verb] == 2:
            self.crowded.set()
        return await getattr(self, f"_{request.verb or 'echo'}")(request)

    async def _echo(self, request):
        principal = current_principal()
        facts = {
            "kind": principal.kind,
            "tenant": str(principal.tenant_id),
            "user": str(principal.user_id),
            "role": principal.role,
            "name": principal.name,
            "request_id": request_ids.current(),
            "trace_id": f"{trace.get_current_span().get_span_context().trace_id:032x}",
            "remaining": json.dumps(deadlines.remaining_seconds()),
        }
        return pb.Echo(text=request.short_text, facts=facts)

    async def _refuse(self, request):
        raise ShelfFull(
            "Das Regal ist voll (é): take something away.",
            violations=[Violation("sentItems", "shelf.room", "must fit on the shelf")],
            retry_after=2.5,
            shelf_name="upper",
        )

    async def _crash(self, request):
        raise ZeroDivisionError("secret-of-the-house")

    async def _broken(self, request):
        raise Broken("password=hunter2")

    async def _flaky(self, request):
        if self.calls["flaky"] < 3:
            raise Broken
        return pb.Echo(text="at last")

    async def _nothing(self, request):
        return None

    async def _timeout(self, request):
        raise TimeoutError

    async def _leak(self, request):
        inner = asyncio.create_task(asyncio.sleep(60))
        inner.cancel()
        await inner

    async def _hold(self, request):
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return pb.Echo(text="released")

    async def _relay(self, request):
        """Ask the peer that the test has set, as a service asks another."""
        channel, method = self.peer
        return await channel.call(method, pb.EchoRequest(verb=request.short_text))
