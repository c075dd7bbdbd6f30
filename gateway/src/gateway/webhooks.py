"""Meta's webhooks, passed on to the ingest as they came: the signature covers the very bytes.

The gateway holds a body only until the ingest has answered; only then does Meta hear anything. Whatever goes wrong
before that is a 503, and Meta sends the webhook again.
"""

import asyncio
import string
from urllib.parse import quote_from_bytes

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway import body
from gateway.ingest import Ingest
from gateway.problems import BodyTimeout
from gateway.settings import GatewaySettings
from kit import request_ids, telemetry
from kit.errors import Unavailable
from kit.http_pool import AnswerLost, NotReached

log = structlog.get_logger()

PATH = "/webhooks/meta"

_PASSED_ON = ("X-Hub-Signature-256", "Content-Type")
_HELD_BYTES_MAX = 64 * 1024 * 1024
"""Of bodies in memory, those still arriving included. Meta sends again what finds no room."""
_RETRY_SECONDS = 1


class Webhooks:
    """The way from Meta to the ingest."""

    def __init__(self, ingest: Ingest, settings: GatewaySettings) -> None:
        self._ingest = ingest
        self._bytes_max = settings.webhook_bytes_max
        self._seconds = settings.webhook_seconds
        self._held_bytes = 0

    async def answer(self, request: Request) -> Response:
        """The ingest's own answer. Raises Unavailable, BodyTooLarge or BodyTimeout."""
        pieces: list[bytes] = []
        try:
            await self._read(request, pieces)
            return await self._pass_on(request, b"".join(pieces))
        finally:
            self._held_bytes -= sum(map(len, pieces))

    async def _read(self, request: Request, pieces: list[bytes]) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                async for piece in body.stream(request, bytes_max=self._bytes_max, seconds_max=self._seconds):
                    pieces.append(piece)
                    self._held_bytes += len(piece)
                    if self._held_bytes > _HELD_BYTES_MAX:
                        raise Unavailable(
                            "Too many webhooks arrive at once; send it again.", retry_after=_RETRY_SECONDS
                        )
        except TimeoutError:
            raise BodyTimeout from None

    async def _pass_on(self, request: Request, raw: bytes) -> Response:
        passed_on = self._passed_on(request, raw)
        try:
            async with asyncio.timeout(self._seconds):
                reply = await self._ingest.pass_on(passed_on)
        except NotReached as error:
            raise _unavailable() from error
        except (AnswerLost, TimeoutError) as error:
            log.warning("ingest_does_not_answer", error=repr(error))
            raise _unavailable() from error
        back = {"Content-Type": reply.content_type, "Retry-After": reply.retry_after}
        return Response(reply.body, reply.status, {name: value for name, value in back.items() if value})

    def _passed_on(self, request: Request, raw: bytes) -> bytes:
        """The request as the ingest gets it."""
        headers = {"Host": self._ingest.netloc}
        headers |= {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        headers |= {request_ids.HEADER: request_ids.current(), **telemetry.headers()}
        verb = "GET"
        if request.method == "POST":
            verb, headers["Content-Length"] = "POST", str(len(raw))
        lines = [f"{verb} {_target(request.scope['query_string'])} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (raw if verb == "POST" else b"")


def routes(ingest: Ingest, settings: GatewaySettings) -> list[BaseRoute]:
    return [Route(PATH, Webhooks(ingest, settings).answer, methods=["GET", "POST"])]


def _unavailable() -> Unavailable:
    return Unavailable("Webhooks are not taken now; send it again.", retry_after=_RETRY_SECONDS)


def _target(query: bytes) -> str:
    """The query exactly as it came; bytes that HTTP does not allow there are escaped."""
    text = quote_from_bytes(query, safe=string.ascii_letters + string.digits + string.punctuation)
    return f"{PATH}?{text}" if text else PATH
