"""An HTTP client that costs next to nothing: pre-built requests on kept connections, answers recognised by length."""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable
from typing import cast

_loop = asyncio.get_running_loop

Request = tuple[bytes, str]
"""The bytes, and a name where it is of interest when this very request was answered."""

Answered = Callable[["Connection", int, float], None]
"""Called with the connection, the status (0: the connection broke) and when the request counted as sent."""


class Connection(asyncio.Protocol):
    """One kept connection with at most one request in flight."""

    def __init__(self, answered: Answered) -> None:
        self._answered = answered
        self._buffer = b""
        self.name = ""
        self._sent_at = 0.0
        self._is_waiting = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's by class.
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: Request, counted_from: float) -> None:
        assert self._transport is not None
        data, self.name = request
        self._sent_at = counted_from
        self._is_waiting = True
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if not is_whole(data):
            self._buffer = data
            return
        self._buffer = b""
        self._is_waiting = False
        self._answered(self, int(data[9:12]), self._sent_at)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (the protocol's signature)
        if self._is_waiting:
            self._is_waiting = False
            self._answered(self, 0, self._sent_at)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        self._is_waiting = False
        if self._transport is not None:
            self._transport.close()


def is_whole(data: bytes) -> bool:
    """Whether these bytes are a whole answer; every server here names its length."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return False
    lower = data[:head].lower()
    at = lower.find(b"content-length:")
    if at < 0:
        return lower.find(b"transfer-encoding: chunked") >= 0 and data.endswith(b"0\r\n\r\n")
    end = lower.find(b"\r\n", at)
    length = int(lower[at + 15 : end if end > 0 else head])
    return len(data) >= head + 4 + length


async def connect(host: str, port: int, count: int, answered: Answered) -> list[Connection]:
    pairs = [await _loop().create_connection(lambda: Connection(answered), host, port) for _ in range(count)]
    return [connection for _, connection in pairs]


Next = Callable[[], Request]
"""The next request."""


class Load:
    """Sends requests and remembers what came of each: its status, and the seconds until its answer.

    By the clock, not by the loop's time: uvloop's is that of its turn, in whole milliseconds.
    """

    def __init__(self, host: str, port: int, *, connections: int, next_request: Next) -> None:
        self._place = (host, port)
        self._count = connections
        self._next = next_request
        self._free: deque[Connection] = deque()
        self._late: deque[float] = deque()
        self._keeps_going = False
        self._left = math.inf
        self._all_sent = asyncio.Event()
        self._all_free = asyncio.Event()
        self._open: set[Connection] = set()
        self.seconds: list[float] = []
        self.statuses: dict[int, int] = {}
        self.named: dict[str, float] = {}
        """When a request with a name was answered 200, as time.time() tells it."""

    async def open(self) -> None:
        connections = await connect(*self._place, self._count, self._answered)
        self._open = set(connections)
        self._free.extend(connections)

    async def close(self) -> None:
        for connection in self._open:
            connection.close()
        await asyncio.sleep(0)

    async def closed_loop(self, seconds: float, *, most: float = math.inf) -> float:
        """Every connection sends as soon as it has its answer, until so many requests are sent or the time is over.
        Gives the answered requests per second.
        """
        began = time.monotonic()
        self._keeps_going, self._left = True, most
        while self._free and self._has_more():
            self._send(self._free.popleft(), time.monotonic())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_sent.wait(), seconds)
        count, took = len(self.seconds), time.monotonic() - began
        self._keeps_going = False
        await self._settled(30)
        return count / took

    async def open_loop(self, rate: float, seconds: float) -> None:
        """Requests fall due at an even rate whatever becomes of them; each one's time counts from when it was due."""
        began, due = time.monotonic() + 0.01, 0
        total = int(rate * seconds)
        while due < total:
            now = time.monotonic()
            # Timers wake by the millisecond, so the requests of a millisecond fall due together at its end.
            tick = math.floor((now - began) * 1000) / 1000
            while due < total and due / rate <= tick:
                self._offer(began + max(tick, due / rate))
                due += 1
            # No less: uvloop takes less than a millisecond for none, and the loop would spin.
            await asyncio.sleep(0.001)
        await self._settled(30)

    def _has_more(self) -> bool:
        """Whether another request may be sent, which is then counted."""
        if self._left <= 0:
            self._all_sent.set()
            return False
        self._left -= 1
        return True

    def _offer(self, moment: float) -> None:
        while self._free:
            connection = self._free.popleft()
            if connection.is_open:
                self._send(connection, moment)
                return
        self._late.append(moment)

    def _send(self, connection: Connection, moment: float) -> None:
        self._all_free.clear()
        connection.send(self._next(), moment)

    def _answered(self, connection: Connection, status: int, sent_at: float) -> None:
        now = time.monotonic()
        self.seconds.append(now - sent_at)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if connection.name and status == 200:
            self.named[connection.name] = time.time()
        if not connection.is_open:
            self._open.discard(connection)
            _loop().create_task(self._replace())
        elif self._keeps_going and self._has_more():
            connection.send(self._next(), now)
        elif self._late:
            connection.send(self._next(), self._late.popleft())
        else:
            self._free.append(connection)
            if len(self._free) == self._count:
                self._all_free.set()

    async def _replace(self) -> None:
        """A connection that broke is opened anew, for as long as it takes."""
        while True:
            try:
                (connection,) = await connect(*self._place, 1, self._answered)
                break
            except OSError:
                await asyncio.sleep(0.01)
        self._open.add(connection)
        if self._keeps_going and self._has_more():
            self._send(connection, time.monotonic())
        elif self._late:
            self._send(connection, self._late.popleft())
        else:
            self._free.append(connection)
            if len(self._free) == self._count:
                self._all_free.set()

    async def _settled(self, seconds: float) -> None:
        if len(self._free) < self._count:
            async with asyncio.timeout(seconds):
                await self._all_free.wait()
