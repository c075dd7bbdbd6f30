"""The server around the connections: it listens, ends those that are late, and stops in order (ADR 0017)."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from svc_webhooks.exchange import Exchange
from svc_webhooks.http import Connection

log = structlog.get_logger()

_LOOK_SECONDS = 5.0
_DRAIN_SECONDS = 8.0
_BACKLOG = 2048

Handler = Callable[[Exchange], None]
Refused = Callable[[int], None]


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
        self.arriving_bytes = 0
        """Of all requests that have not reached the handler."""
        self.is_stopping = False
        self._deserted = asyncio.Event()
        self.now = asyncio.get_running_loop().time

    async def run(self, host: str, port: int, stop: asyncio.Event) -> None:
        """Serve until `stop`, then answer what has arrived, for some seconds at most."""
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(lambda: Connection(self), host, port, backlog=_BACKLOG)
        try:
            while not stop.is_set():
                self._end_late()
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

    def _end_late(self) -> None:
        now = self.now()
        for connection in list(self.connections):
            connection.end_if_late(now)

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
