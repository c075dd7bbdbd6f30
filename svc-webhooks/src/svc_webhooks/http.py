"""HTTP/1.1 for one purpose: small requests at a high rate, each answered when somebody says so (ADR 0017).

No task, future or timer belongs to a request. The parser is C, the answer is bytes, and whoever answers calls
`Exchange.answer`, at once or later. Answers leave a connection in the order of its requests.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import httptools

from svc_webhooks.exchange import Exchange, answer

if TYPE_CHECKING:
    from svc_webhooks.http_server import Server

HEAD_BYTES_MAX = 64 * 1024
HEADERS_MAX = 128
"""Some bytes of a head become hundreds here, so that their number is bounded too."""
ARRIVING_SECONDS = 30.0
"""From a request's first byte to its last. A proxy in front sends it at once; who trickles only holds memory."""
ARRIVING_BYTES_MAX = 256 * 1024 * 1024
"""Of all requests together that nobody has checked yet: as much as the journal may hold of those that are signed."""
SILENT_SECONDS = 75.0
_OWED_MAX = 32
_TURN_MAX = 32
"""Requests of one connection that are handled before others have their turn: one read may bring thousands."""
_LINGER_SECONDS = 2.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


_REFUSALS = {status: answer(status, headers={"connection": "close"}) for status in (400, 413, 431, 503)}


class Connection(asyncio.Protocol):
    """One client. The methods named `on_…` are the parser's callbacks."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._url = b""
        self._received = 0
        """Bytes since the last request was complete, with all that is no body: chunk heads, trailers."""
        self._arriving: Exchange | None = None
        self._began_at = 0.0
        self._is_in_head = False
        self._arrived: deque[Exchange] = deque()
        """Complete, and not handled yet."""
        self._arrived_bytes = 0
        self._counted = 0
        """This connection's part of `Server.arriving_bytes`."""
        self._has_turn = False
        """Whether what has arrived is handled in the loop's next turn."""
        self._owed: deque[Exchange] = deque()
        """Handled, and to be answered in this order."""
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
        if self._arriving is not None and not self._is_deaf:
            self._server.refused(400)
        for _ in self._arrived:
            self._server.refused(400)
        self._arrived.clear()
        self._arriving, self._arrived_bytes = None, 0
        self._count()
        # It holds this connection as this connection holds it: 3 KB that would stay until the collector looks, and that
        # is rarely (kit.process), so that memory grew by each connection that had ever been.
        del self._parser
        self._server.forget(self)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self.heard_at = self._server.now()
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nobody here speaks anything else: the request is answered as it is, and what follows is not HTTP.
            self._end_with(self._arrived[-1] if self._arrived else None)
        except httptools.HttpParserError:
            self._refuse(400)
        if self._arriving is not None:
            self._bound()
        if not self._has_turn:
            self._hand_over()

    def pause_writing(self) -> None:
        self._is_stuffed = True
        self._regulate()

    def resume_writing(self) -> None:
        self._is_stuffed = False
        self._hand_over_soon()
        self._regulate()

    def on_message_begin(self) -> None:
        if self._is_deaf:
            return
        self._url = b""
        self._arriving = Exchange(self)
        self._began_at = self.heard_at
        self._is_in_head = True

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        # The parser tells trailers in the same way: they mean nothing here, and are not kept.
        if self._arriving is None or not self._is_in_head:
            return
        headers = self._arriving.headers
        headers[name.lower()] = value
        if len(headers) > HEADERS_MAX:
            self._refuse(431)

    def on_headers_complete(self) -> None:
        exchange = self._arriving
        if exchange is None or self._is_deaf:
            return
        self._is_in_head = False
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
        self._received = 0
        self._arrived.append(exchange)
        self._arrived_bytes += exchange.weight
        if exchange.is_last:
            self._is_deaf = True

    def send_answers(self) -> None:
        """Those that are ready, in order."""
        owed, transport = self._owed, self._transport
        while owed and (reply := owed[0].reply) is not None:
            is_last = owed.popleft().is_last or (self._server.is_stopping and not self.is_owed)
            if transport.is_closing():
                continue
            if is_last:
                transport.write(reply.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
                transport.close()
            else:
                transport.write(reply)
        if self._is_waiting:
            self._hand_over_soon()
            self._regulate()

    def finish(self) -> None:
        """End when what is owed is answered."""
        if not self.is_owed and not self._is_deaf:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def end_if_late(self, now: float) -> None:
        """End it where a request takes too long to arrive, or where nothing comes and nothing is worked at. A client
        that is not read cannot be late.
        """
        is_slow = self._arriving is not None and not self._is_waiting and self._began_at < now - ARRIVING_SECONDS
        if is_slow or (self.heard_at < now - SILENT_SECONDS and not self._owed):
            self.abort()

    @property
    def is_owed(self) -> bool:
        return bool(self._owed or self._arrived)

    def _hand_over(self) -> None:
        """Requests that are complete go to the handler, outside of the parser, which would hide its mistakes."""
        self._has_turn = False
        arrived, owed = self._arrived, self._owed
        left = _TURN_MAX
        while arrived and left and not self._is_stuffed and len(owed) <= _OWED_MAX:
            left -= 1
            exchange = arrived.popleft()
            self._arrived_bytes -= exchange.weight
            owed.append(exchange)
            self._server.handle(exchange)
        self._count()
        if arrived or self._is_waiting or len(owed) > _OWED_MAX:
            self._hand_over_soon()
            self._regulate()

    def _hand_over_soon(self) -> None:
        """In a later turn: whoever calls may be in the middle of an answer."""
        if self._arrived and not self._has_turn and not self._is_stuffed and len(self._owed) <= _OWED_MAX:
            self._has_turn = True
            asyncio.get_running_loop().call_soon(self._hand_over)

    def _bound(self) -> None:
        """Refuse what is still arriving and too much: itself, or with all the others."""
        self._count()
        if self._is_in_head and self._received > HEAD_BYTES_MAX:
            self._refuse(431)
        elif self._received > 2 * self._server.body_bytes_max + HEAD_BYTES_MAX:
            # Twice, for a body in small chunks.
            self._refuse(413)
        elif self._server.arriving_bytes > ARRIVING_BYTES_MAX:
            self._refuse(503)

    def _count(self) -> None:
        holds = self._arrived_bytes + (self._received if self._arriving is not None else 0)
        if holds != self._counted:
            self._server.arriving_bytes += holds - self._counted
            self._counted = holds

    def _regulate(self) -> None:
        """Read on, or not, by what is still owed."""
        waits = self._is_stuffed or bool(self._arrived) or len(self._owed) > _OWED_MAX
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
        self._arriving = None
        self._server.refused(status)
        if before := self._arrived or self._owed:
            # Answers before this one are on their way; the client will find out by sending it again.
            before[-1].is_last = True
            return
        self._transport.write(_REFUSALS[status])
        self._transport.write_eof()
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._transport.close)

    def _end_with(self, last: Exchange | None) -> None:
        if self._is_deaf:
            return
        if last is None:
            self._refuse(400)
        else:
            last.is_last = self._is_deaf = True
