"""One open stream from its first byte to its last: the past, then the present, with signs of life in between."""

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Receive, Scope, Send

from gateway import edge
from gateway.settings import GatewaySettings
from gateway.stream.connections import Connection
from gateway.stream.frames import print_mark, print_notice
from gateway.stream.hub import Hub
from gateway.stream.positions import Position
from kit.errors import Unavailable

END = "stream.end"
"""Event: the stream is over, and why."""
ENDINGS = {
    "TOKEN_EXPIRED": "The access token has expired: refresh it, then connect again.",
    "SESSION_REVOKED": "The session was ended: sign in again.",
    "SERVER_STOPPING": "This server stops: connect again.",
    "EVENTS_LOST": "Events were lost on the way here: connect again.",
}
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    # Proxies that gather answers before they pass them on, as nginx does, would hold events back.
    "X-Accel-Buffering": "no",
}
# How long a reader that does not keep up may take for the last words.
_LAST_SECONDS = 1.0


class Serving:
    """Feeds one connection to its client."""

    def __init__(self, hub: Hub, connection: Connection, settings: GatewaySettings, scope: Scope, send: Send) -> None:
        self._hub = hub
        self._connection = connection
        self._heartbeat_seconds = settings.stream_heartbeat_seconds
        self._retry_seconds = settings.stream_retry_seconds
        self._scope = scope
        self._send = send

    async def run(self, receive: Receive, *, since: Position | None, joined: Position) -> None:
        """Until either side ends it. Raises Unavailable as long as nothing was sent."""
        past = self._past(since, joined)
        # The first piece comes before the head, so that an outage is a 503 and not half a stream.
        first = await anext(past)
        headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        watching = asyncio.create_task(self._end_with_client(receive))
        try:
            await self._tell(first)
            async for piece in past:
                if self._connection.ended:
                    break
                await self._tell(piece)
            await self._tell_live()
            await self._tell_ending()
        except Unavailable:
            # What follows must not look as if nothing were missing.
            edge.abort(self._scope)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _past(self, since: Position | None, joined: Position) -> AsyncIterator[bytes]:
        greeting = f": the live stream of your workspace\nretry: {int(self._retry_seconds * 1000)}\n\n".encode()
        if since is None:
            self._connection.seen = joined
        else:
            async for piece in self._hub.missed(self._connection, since=since, until=joined):
                yield greeting + piece
                greeting = b""
        yield greeting + print_mark(self._connection.seen)

    async def _tell_live(self) -> None:
        connection = self._connection
        while not connection.ended:
            piece = await connection.take(self._heartbeat_seconds)
            if not piece and not connection.ended:
                piece = self._sign_of_life()
            await self._tell(piece)

    async def _tell_ending(self) -> None:
        connection = self._connection
        last = b""
        if detail := ENDINGS.get(connection.ended):
            last = print_notice(END, {"code": connection.ended, "detail": detail})
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self._tell(last, is_last=True)
        except TimeoutError:
            edge.abort(self._scope)

    def _sign_of_life(self) -> bytes:
        """Carries the newest position, so that a quiet workspace's readers do not come back with one long past."""
        if self._connection.is_idle:
            self._connection.seen = max(self._connection.seen, self._hub.position)
        return b": still here\n" + print_mark(self._connection.seen)

    async def _tell(self, piece: bytes, *, is_last: bool = False) -> None:
        self._connection.is_sending = True
        try:
            await self._send({"type": "http.response.body", "body": piece, "more_body": not is_last})
        finally:
            self._connection.is_sending = False

    async def _end_with_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._connection.end("CLIENT_LEFT")
