"""Meta's webhooks, passed on to the ingest as they came: the signature covers the very bytes.

The gateway holds a body only until the ingest has answered; only then does Meta hear anything. Whatever goes wrong
before that is a 503, and Meta sends the webhook again.
"""

import asyncio
import io
import string
from urllib.parse import quote_from_bytes

import aiohttp
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from yarl import URL

from gateway import body
from gateway.problems import BodyTimeout
from gateway.settings import GatewaySettings
from kit import request_ids, telemetry
from kit.errors import Unavailable

log = structlog.get_logger()

PATH = "/webhooks/meta"

_PASSED_ON = ("X-Hub-Signature-256", "Content-Type")
_PASSED_BACK = ("Content-Type", "Retry-After")
_HELD_BYTES_MAX = 64 * 1024 * 1024
"""Of bodies in memory, those still arriving included. Meta sends again what finds no room."""
# The ingest keeps idle connections for longer, so that none dies under a webhook that we just gave it.
_IDLE_SECONDS = 30
_RETRY_SECONDS = 1
_CUT = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientConnectionResetError)


def make_client(settings: GatewaySettings) -> aiohttp.ClientSession:
    """Connections to the ingest, as many as the settings allow; further webhooks wait for one to be free."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=settings.webhook_connections, keepalive_timeout=_IDLE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=settings.webhook_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


class Webhooks:
    """The way from Meta to the ingest."""

    def __init__(self, client: aiohttp.ClientSession, settings: GatewaySettings) -> None:
        self._client = client
        self._url = settings.ingest_url + PATH
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
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        headers |= {request_ids.HEADER: request_ids.current(), **telemetry.headers()}
        verb = "POST" if request.method == "POST" else "GET"
        url = _with_query(self._url, request.scope["query_string"])
        try:
            async with asyncio.timeout(self._seconds):
                try:
                    return await self._ask(verb, url, raw, headers)
                except _CUT:
                    # An ingest that is being replaced closed the kept connection at this moment. Its successor has a
                    # new one, and a webhook that is journalled twice has its effect once.
                    return await self._ask(verb, url, raw, headers)
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("ingest_unreachable", error=repr(error))
            raise Unavailable("Webhooks are not taken now; send it again.", retry_after=_RETRY_SECONDS) from error

    async def _ask(self, verb: str, url: URL, raw: bytes, headers: dict[str, str]) -> Response:
        async with self._client.request(
            verb,
            url,
            data=io.BytesIO(raw) if verb == "POST" else None,  # written in pieces, as large ones take a while
            headers=headers,
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
            allow_redirects=False,
        ) as answered:
            content = await answered.read()
        back = {name: answered.headers[name] for name in _PASSED_BACK if name in answered.headers}
        return Response(content, answered.status, back)


def routes(client: aiohttp.ClientSession, settings: GatewaySettings) -> list[BaseRoute]:
    return [Route(PATH, Webhooks(client, settings).answer, methods=["GET", "POST"])]


def _with_query(url: str, query: bytes) -> URL:
    """The query exactly as it came; bytes that HTTP does not allow there are escaped."""
    text = quote_from_bytes(query, safe=string.ascii_letters + string.digits + string.punctuation)
    return URL(f"{url}?{text}" if text else url, encoded=True)
