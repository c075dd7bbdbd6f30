"""Meta's Graph API over HTTP: what was sent, and what came back, without judging it."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec

from kit.http_pool import AnswerLost, NotReached, Written
from svc_messaging.sender.posts import Posts

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 30
_JSON = {"Content-Type": "application/json"}
_NONE: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Answer:
    """What Meta answered: an HTTP status and its JSON, an empty object where the body is none."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)
    retry_after_seconds: float | None = None
    read_at: float | None = None
    """When it was read, by time.monotonic(); None where nobody looked."""

    @property
    def error(self) -> dict[str, Any] | None:
        error = self.body.get("error")
        return error if isinstance(error, dict) else None


class GraphClient:
    """Connections to Meta for the whole process: one pool for messages, one for files and look-ups."""

    def __init__(self, base_url: str, version: str, *, connections: int = 512) -> None:
        """`connections` for messages: at 1,000 a second as many as Meta takes half a second to answer."""
        self._base = f"{base_url.rstrip('/')}/{version}"
        # A connection idle for longer may just be closed by Meta while we write to it, and the answer be lost.
        connector = aiohttp.TCPConnector(limit=256, keepalive_timeout=15, ttl_dns_cache=60)
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS, sock_connect=_CONNECT_SECONDS)
        # Found once: aiohttp's trust_env would read environment and .netrc anew, in a thread, for each request.
        self._proxy = proxy_for(self._base)
        cookies = aiohttp.DummyCookieJar()
        self._http = aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=cookies)
        self._path = urlsplit(self._base).path
        self._posts = None if self._proxy else Posts(self._base, connections=connections)

    async def post(self, path: str, body: dict[str, Any], *, token: str, written: Written) -> Answer:
        """`written` hears when the request is written. Raises NotReached or AnswerLost, as all do."""
        data = msgspec.json.encode(body)
        if self._posts is None:
            written(time.monotonic())
            return await self._request("POST", path, token=token, data=data, headers=_JSON)
        reply = await self._posts.post(f"{self._path}/{path}", data, token=token, written=written)
        return Answer(reply.status, _object(reply.body), _retry_after(reply.retry_after), reply.read_at)

    async def get(self, path: str, *, token: str) -> Answer:
        return await self._request("GET", path, token=token)

    async def upload(self, path: str, form: aiohttp.FormData, *, token: str) -> Answer:
        return await self._request("POST", path, token=token, data=form)

    async def download(self, url: str, *, token: str, most_bytes: int) -> AsyncIterator[bytes]:
        """The bytes of a media URL in parts. Raises DownloadRefused for anything but 200 and for more than agreed."""
        headers = {"Authorization": f"Bearer {token}", "User-Agent": "aerostic"}
        try:
            # The token must not follow a redirect to another host.
            async with self._http.get(url, headers=headers, allow_redirects=False, proxy=proxy_for(url)) as response:
                if response.status != 200:
                    raise DownloadRefused(response.status)
                received = 0
                async for part in response.content.iter_chunked(256 * 1024):
                    received += len(part)
                    if received > most_bytes:
                        raise DownloadTooLarge(most_bytes)
                    yield part
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotReached(type(error).__name__) from error

    async def close(self) -> None:
        await self._http.close()
        if self._posts is not None:
            self._posts.close()

    async def _request(
        self, method: str, path: str, *, token: str, headers: Mapping[str, str] = _NONE, **content: Any
    ) -> Answer:
        headers = {"Authorization": f"Bearer {token}", **headers}
        try:
            url = f"{self._base}/{path}"
            async with self._http.request(method, url, headers=headers, proxy=self._proxy, **content) as response:
                raw = await response.read()
                return Answer(response.status, _object(raw), _retry_after(response.headers.get("Retry-After")))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotReached(type(error).__name__) from error
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise AnswerLost(type(error).__name__) from error


class DownloadRefused(Exception):
    """Meta did not give the file."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class DownloadTooLarge(Exception):
    """The file is larger than Meta documents; it is not read further."""


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for this address (HTTPS_PROXY, HTTP_PROXY, NO_PROXY)."""
    parts = urlsplit(url)
    if parts.hostname is None or proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _retry_after(header: str | None) -> float | None:
    return float(header) if header and header.isdigit() else None
