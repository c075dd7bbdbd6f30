"""Requests to one origin over kept connections: HTTP/1.1 with little around it (ADR 0018).

A thousand messages a second leave by it, and Meta's webhooks pass through it on their way to the ingest. It knows no
redirects, cookies, compression or proxies: what needs those goes by aiohttp.
"""

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohappyeyeballs
import httptools

_CONNECT_SECONDS = 5
# An address that does not answer so soon gets company: the next one is tried beside it, of the other family first.
_NEXT_ADDRESS_SECONDS = 0.25
_ADDRESSES_SECONDS = 60
ANSWER_SECONDS = 30.0
# A connection idle for longer may just be closed by the other side while we write to it, and the answer be lost.
_IDLE_SECONDS = 15
_ANSWER_BYTES_MAX = 1024 * 1024


Address = aiohappyeyeballs.AddrInfoType
Written = Callable[[float], None]
"""Called with a moment of time.monotonic()."""


class NotReached(Exception):
    """No connection came about, so nothing was sent: safe to repeat."""


class AnswerLost(Exception):
    """The request may have arrived, but its answer did not: whether it was acted upon is unknown."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. A header that did not is empty."""

    status: int
    body: bytes
    content_type: str
    retry_after: str
    read_at: float
    """A moment of time.monotonic()."""


def ignore(_moment: float) -> None:
    """For whom the moment of writing does not matter."""


class HttpPool:
    """A bounded pool of connections to the host of a URL."""

    def __init__(self, url: str, *, connections: int, answer_seconds: float = ANSWER_SECONDS) -> None:
        parts = urlsplit(url)
        assert parts.hostname, "a URL with a host"
        is_secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port or (443 if is_secure else 80)
        self._ssl = ssl.create_default_context() if is_secure else None
        self.netloc = parts.netloc
        self._most = connections
        self.answer_seconds = answer_seconds
        self._open = 0
        self._idle: list[_Connection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._addresses: list[Address] = []
        self._resolved_at = 0.0
        self._resolving = asyncio.Lock()

    async def exchange(self, request: bytes, *, written: Written = ignore) -> Reply:
        """Write a whole request and read its answer. `written` hears when it is written; where it raises, nothing is.

        Raises NotReached or AnswerLost. What is cancelled in the middle may have been sent.
        """
        connection = await self._connection()
        try:
            written(time.monotonic())
        except BaseException:
            self._give_back(connection)
            raise
        reply = await connection.exchange(request)
        self._give_back(connection)
        return reply

    def close(self) -> None:
        """Close what is idle; nothing is under way any more."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _connection(self) -> "_Connection":
        while True:
            fresh_since = time.monotonic() - _IDLE_SECONDS
            while self._idle:
                connection = self._idle.pop()
                if connection.idle_since > fresh_since and not connection.is_closed:
                    return connection
                connection.close()
            if self._open < self._most:
                return await self._connect()
            await self._one_is_free()

    async def _one_is_free(self) -> None:
        free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(free)
        try:
            await free
        except asyncio.CancelledError:
            if not free.cancelled():  # told, and gave up in the same moment
                self._wake_one()
            raise

    async def _connect(self) -> "_Connection":
        self._open += 1
        loop = asyncio.get_running_loop()
        made = _Connection(self)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                way = await aiohappyeyeballs.start_connection(
                    await self._resolved(), happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS
                )
                way.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                name = self._host if self._ssl else None
                await loop.create_connection(lambda: made, sock=way, ssl=self._ssl, server_hostname=name)
        except BaseException as error:
            # One that was made tells of its end itself.
            made.close() if made.was_made else self.lost()
            if isinstance(error, OSError | TimeoutError):
                # It may have moved, as a container does that is made anew.
                self._addresses = []
                raise NotReached(type(error).__name__) from error
            raise
        return made

    async def _resolved(self) -> list[Address]:
        """The host's addresses, looked up again after a minute and when none of them answers."""
        async with self._resolving:
            if not self._addresses or time.monotonic() - self._resolved_at > _ADDRESSES_SECONDS:
                self._addresses = await _look_up(self._host, self._port)
                self._resolved_at = time.monotonic()
            return self._addresses

    def _give_back(self, connection: "_Connection") -> None:
        if connection.is_closed:
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        self._wake_one()

    def lost(self) -> None:
        """A connection has ended, so another may be made."""
        self._open -= 1
        self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            free = self._waiting.popleft()
            if not free.done():
                free.set_result(None)
                return


async def _look_up(host: str, port: int) -> list[Address]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(found)


class _Connection(asyncio.Protocol):
    """One request at a time. After anything that is not a whole answer it is closed."""

    def __init__(self, pool: HttpPool) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Reply] | None = None
        self._status, self._body, self._size = 0, list[bytes](), 0
        self._content_type = self._retry_after = ""
        self._has_end = False
        self.idle_since = 0.0

    @property
    def was_made(self) -> bool:
        return self._transport is not None

    @property
    def is_closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    async def exchange(self, request: bytes) -> Reply:
        """Write the request and wait for its answer. Raises AnswerLost."""
        assert self._transport is not None
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._answer = answer
        too_late = self._loop.call_later(self._pool.answer_seconds, self._lose, "TimeoutError")
        self._transport.write(request)
        try:
            return await answer
        finally:
            too_late.cancel()
            if self._answer is not None:  # an exchange that was given up
                self._lose("given up")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's, which are not asyncio's by class

    def connection_lost(self, error: Exception | None) -> None:
        # An answer without a length ends with its connection.
        if self._answer is not None and self._status and not self._has_end and error is None:
            self.on_message_complete()
        self._lose(type(error).__name__ if error else "ServerDisconnected")
        self._pool.lost()
        # It knows us, too: else both stay until the collector looks.
        del self._parser

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self._lose("unasked")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._lose("HttpParserError")

    def on_message_begin(self) -> None:
        if self._answer is None:  # more than was asked for
            self.close()
        self._status, self._body, self._size = 0, [], 0
        self._content_type = self._retry_after = ""
        self._has_end = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._has_end = True
        elif name == b"content-type":
            self._content_type = value.decode("latin-1")
        elif name == b"retry-after":
            self._retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._size += len(body)
        if self._size > _ANSWER_BYTES_MAX:
            self._lose("TooLarge")

    def on_message_complete(self) -> None:
        if self._status < 200 or self._answer is None:  # 1xx comes before the answer
            return
        answer, self._answer = self._answer, None
        if not self._parser.should_keep_alive():
            self.close()
        if not answer.done():
            body = b"".join(self._body)
            answer.set_result(Reply(self._status, body, self._content_type, self._retry_after, time.monotonic()))

    def _lose(self, why: str) -> None:
        """Nothing that comes on this connection can be trusted any more."""
        self.close()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(AnswerLost(why))
