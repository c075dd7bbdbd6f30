"""HTTP/1.1 for one purpose: small requests at a high rate, each answered when somebody says so (ADR 0017).

No task, future or timer belongs to a request. The parser is C, the answer is bytes, and whoever answers calls
`Exchange.answer`, at once or later. Answers leave a connection in the order of its requests.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from http import HTTPStatus

import httptools
import structlog

log = structlog.get_logger()

HEAD_BYTES_MAX = 64 * 1024
_OWED_MAX = 32
_SILENT_SECONDS = 75.0
_LOOK_SECONDS = 5.0
_DRAIN_SECONDS = 8.0
_LINGER_SECONDS = 2.0
_BACKLOG = 2048
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def answer(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """An answer's bytes."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


_REFUSALS = {status: answer(status, headers={"connection": "close"}) for status in (400, 413, 431)}


class Exchange:
    """A request that has arrived, and the answer that is owed for it."""

    __slots__ = ("_connection", "_parts", "_size", "body", "headers", "is_last", "method", "path", "query", "reply")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._parts: list[bytes] = []
        self._size = 0
        self.method = b""
        self.path = b""
        """As it was written: nothing is decoded in it."""
        self.query = b""
        self.headers: dict[bytes, bytes] = {}
        """Names in lower case; of several with one name the last."""
        self.body = b""
        self.is_last = False
        self.reply: bytes | None = None

    def answer(self, reply: bytes) -> None:
        """Send `answer(…)`, once. A client that has gone away is no error."""
        self.reply = reply
        self._connection.send_answers()

    def take(self, part: bytes) -> int:
        """More of the body; gives how much that is by now."""
        self._parts.append(part)
        self._size += len(part)
        return self._size

    def complete(self) -> None:
        self.body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []


Handler = Callable[[Exchange], None]
Refused = Callable[[int], None]


class Connection(asyncio.Protocol):
    """One client. The methods named `on_…` are the parser's callbacks."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._url = b""
        self._head_bytes = 0
        self._arriving: Exchange | None = None
        self._arrived: list[Exchange] = []
        self._owed: deque[Exchange] = deque()
        self._is_deaf = False
        """Whether nothing more is read: the connection ends with the answers that are owed."""
        self._is_stuffed = False
        """Whether the client does not take its answers."""
        self._is_waiting = False
        """Whether reading pauses until answers have gone out."""
        self.heard_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's, which are not asyncio's by class
        self.heard_at = self._server.now()
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's interface)
        self._server.forget(self)
        if self._arriving is not None and not self._is_deaf:
            self._server.refused(400)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self.heard_at = self._server.now()
        if self._arriving is None or not self._arriving.method:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nobody here speaks anything else: the request is answered as it is, and what follows is not HTTP.
            self._end_with(self._arrived[-1] if self._arrived else None)
        except httptools.HttpParserError:
            self._refuse(400)
        if self._arriving is not None and not self._arriving.method and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431)
        self._hand_over()

    def pause_writing(self) -> None:
        self._is_stuffed = True
        self._regulate()

    def resume_writing(self) -> None:
        self._is_stuffed = False
        self._regulate()

    def on_message_begin(self) -> None:
        self._url = b""
        self._arriving = Exchange(self)

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._arriving is not None:
            self._arriving.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        exchange = self._arriving
        if exchange is None or self._is_deaf:
            return
        self._head_bytes = 0
        exchange.method = self._parser.get_method()
        exchange.path, _, exchange.query = self._url.partition(b"?")
        exchange.is_last = not self._parser.should_keep_alive()
        declared = exchange.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._server.body_bytes_max:
            self._refuse(413)
        elif exchange.headers.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(_CONTINUE)

    def on_body(self, part: bytes) -> None:
        if self._arriving is not None and not self._is_deaf and self._arriving.take(part) > self._server.body_bytes_max:
            self._refuse(413)

    def on_message_complete(self) -> None:
        exchange = self._arriving
        if exchange is None or self._is_deaf:
            return
        exchange.complete()
        self._arriving = None
        self._owed.append(exchange)
        self._arrived.append(exchange)
        if exchange.is_last:
            self._is_deaf = True

    def send_answers(self) -> None:
        """Those that are ready, in order."""
        owed, transport = self._owed, self._transport
        while owed and (reply := owed[0].reply) is not None:
            is_last = owed.popleft().is_last or (self._server.is_stopping and not owed)
            if transport.is_closing():
                continue
            if is_last:
                transport.write(reply.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
                transport.close()
            else:
                transport.write(reply)
        if self._is_waiting:
            self._regulate()

    def finish(self) -> None:
        """End when what is owed is answered."""
        if not self._owed and not self._is_deaf:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    @property
    def is_owed(self) -> bool:
        return bool(self._owed)

    def _hand_over(self) -> None:
        """Requests that are complete go to the handler, outside of the parser, which would hide its mistakes."""
        arrived, self._arrived = self._arrived, []
        for exchange in arrived:
            self._server.handle(exchange)
        if len(self._owed) > _OWED_MAX:
            self._regulate()

    def _regulate(self) -> None:
        """Read on, or not, by what is still owed."""
        waits = self._is_stuffed or len(self._owed) > _OWED_MAX
        if waits == self._is_waiting or self._transport.is_closing():
            return
        self._is_waiting = waits
        if waits:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _refuse(self, status: int) -> None:
        """Answer without reading on. What the client still sends is thrown away for a moment, since closing at once
        would make its system forget the answer.
        """
        if self._is_deaf:
            return
        self._is_deaf = True
        self._server.refused(status)
        if self._owed:
            # Answers before this one are on their way; the client will find out by sending it again.
            self._owed[-1].is_last = True
            return
        self._transport.write(_REFUSALS[status])
        self._transport.write_eof()
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._transport.close)

    def _end_with(self, last: Exchange | None) -> None:
        if last is None:
            self._refuse(400)
        else:
            last.is_last = self._is_deaf = True


class Server:
    """Listens, hands each request to the handler, and ends in order."""

    def __init__(self, handler: Handler, *, body_bytes_max: int, refused: Refused) -> None:
        """`refused` hears of each request that never reached the handler, and its status: 400 also for a client that
        went away in the middle.
        """
        self.handle = handler
        self.refused = refused
        self.body_bytes_max = body_bytes_max
        self.connections: set[Connection] = set()
        self.is_stopping = False
        self._deserted = asyncio.Event()
        self.now = asyncio.get_running_loop().time

    async def run(self, host: str, port: int, stop: asyncio.Event) -> None:
        """Serve until `stop`, then answer what has arrived, for some seconds at most."""
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(lambda: Connection(self), host, port, backlog=_BACKLOG)
        try:
            while not stop.is_set():
                self._end_silent()
                waiting = asyncio.ensure_future(stop.wait())
                await asyncio.wait([waiting], timeout=_LOOK_SECONDS)
                waiting.cancel()
        finally:
            listening.close()
            await self._drain()

    def forget(self, connection: Connection) -> None:
        """It is over."""
        self.connections.discard(connection)
        if self.is_stopping and not self.connections:
            self._deserted.set()

    def _end_silent(self) -> None:
        """Connections on which nothing comes and nothing is owed."""
        before = self.now() - _SILENT_SECONDS
        for connection in list(self.connections):
            if connection.heard_at < before and not connection.is_owed:
                connection.abort()

    async def _drain(self) -> None:
        self.is_stopping = True
        for connection in list(self.connections):
            connection.finish()
        # A connection is here until its last answer has left.
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._deserted.wait(), _DRAIN_SECONDS)
        if left := sum(connection.is_owed for connection in self.connections):
            log.warning("requests_not_answered_in_time", connections=left)
        for connection in list(self.connections):
            connection.abort()
