"""Open live streams: what waits for each reader, how much of it, and how many readers there may be.

A thousand readers are told thousands of things a second, so what is done for each of them is counted in microseconds:
what is the same for all readers of a workspace is done by `frames`, once.
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable

from prometheus_client import Counter, Gauge

from gateway.problems import StreamLimitReached
from gateway.stream.frames import Frame, Told
from gateway.stream.positions import Position
from kit import access
from kit.errors import Overloaded
from kit.principal import Principal

_RETRY_SECONDS = 5.0
# About what the server's own buffer takes before it makes us wait: what waits shall wait here, where it is counted.
_PIECE_BYTES = 64 * 1024

_open = Gauge("aerostic_stream_connections", "Live streams open now")
_delivered = Counter("aerostic_stream_events_delivered_total", "Events told to readers of live streams")
_cut = Counter("aerostic_stream_readers_cut_total", "Live streams cut because their reader was too slow")


class Connection:
    """One reader. The hub offers, the route takes; `end` comes from either side."""

    def __init__(self, principal: Principal, *, expires_at: float, bytes_max: int, cut: Callable[[], None]) -> None:
        """`expires_at`: when the reader's token does, as time.time() counts. `cut` breaks the connection at once."""
        self.principal = principal
        self.tenant_id: uuid.UUID = principal.require_tenant()
        self.seen = Position(0)
        """What the reader was told, or will not be told again."""
        self.ended = ""
        """Why it is over; empty while it goes on."""
        self._expires_at = expires_at
        self._bytes_max = bytes_max
        self._cut = cut
        self._granted: dict[str, bool] = {}
        self._waiting: deque[Frame] = deque()
        self._waiting_bytes = 0
        self._alarm = _Alarm()
        self._session = str(principal.session_id)
        self.is_sending = False
        """Whether the reader's own slowness is what the route waits for."""

    def offer(self, told: Told) -> None:
        """Give the reader what a message tells. A reader with too much waiting already is cut off instead: it comes
        again with the id of the last event that it got.
        """
        if self.ended:
            return
        if told.revoked and self._session in told.revoked:
            self.end("SESSION_REVOKED")
            return
        frames = [frame for frame in told.frames if self.wants(frame)]
        if not frames:
            return
        size = sum([len(frame.text) for frame in frames])
        # With nothing waiting any message is taken, or one that is larger than the bound could never be read.
        if self._waiting and self._waiting_bytes + size > self._bytes_max:
            _cut.inc()
            self.end("TOO_SLOW")
            self._cut()
            return
        self._waiting.extend(frames)
        self._waiting_bytes += size
        self._alarm.ring()

    def wants(self, frame: Frame) -> bool:
        """Whether the reader has not seen it and may."""
        if frame.position <= self.seen:
            return False
        if frame.permission not in self._granted:
            self._granted[frame.permission] = access.granted(self.principal.role, frame.permission)
        return self._granted[frame.permission]

    def tell(self, frames: Iterable[Frame]) -> bytes:
        """The text of the events that the reader is now given: those of them that it has not seen."""
        texts: list[bytes] = []
        for frame in frames:
            # Asked again for what has waited: a replay may have told it meanwhile.
            if frame.position > self.seen:
                self.seen = frame.position
                texts.append(frame.text)
        _delivered.inc(len(texts))
        return texts[0] if len(texts) == 1 else b"".join(texts)

    async def take(self, seconds: float) -> bytes:
        """The next of what waits, gathered up to a bound; empty when nothing comes within so many seconds or before the
        stream ends.
        """
        left = self._expires_at - time.time()
        if not self._waiting and not self.ended and left > 0:
            await self._alarm.wait(min(seconds, left))
            left = self._expires_at - time.time()
        if left <= 0 and not self.ended:
            self.end("TOKEN_EXPIRED")
        return self._drain() if self._waiting else b""

    @property
    def is_idle(self) -> bool:
        return not self._waiting

    def end(self, because: str) -> None:
        if self.ended:
            return
        self.ended = because
        self._alarm.ring()
        if self.is_sending:
            self._cut()

    def close(self) -> None:
        """Nobody takes from it any more."""
        self._alarm.stop()

    def _drain(self) -> bytes:
        taken = 0
        frames: list[Frame] = []
        while self._waiting and taken < _PIECE_BYTES:
            frames.append(self._waiting.popleft())
            taken += len(frames[-1].text)
        self._waiting_bytes -= taken
        return self.tell(frames)


class _Alarm:
    """Wakes its one sleeper when it rings or when time is up. Its timer stays with the loop while it sleeps again and
    again: setting one and taking it back for each thing told costs more than telling it.
    """

    def __init__(self) -> None:
        self._sleeper: asyncio.Future[None] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def ring(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._until = loop.time() + seconds
        self._sleeper = loop.create_future()
        if self._timer is None:
            self._timer = loop.call_at(self._until, self._look)
        elif self._timer.when() > self._until:
            self._timer.cancel()
            self._timer = loop.call_at(self._until, self._look)
        try:
            await self._sleeper
        finally:
            self._sleeper = None

    def stop(self) -> None:
        """Nobody will sleep again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._sleeper is None or self._sleeper.done():
            return
        if loop.time() < self._until:
            self._timer = loop.call_at(self._until, self._look)
        else:
            self._sleeper.set_result(None)


class Connections:
    """All readers of this process, by workspace."""

    def __init__(self, *, most: int, tenant_most: int) -> None:
        self._most = most
        self._tenant_most = tenant_most
        self._by_tenant: dict[uuid.UUID, set[Connection]] = {}
        self._count = 0

    def add(self, connection: Connection) -> None:
        """Raises StreamLimitReached, or Overloaded where this process has no room for anybody."""
        if self._count >= self._most:
            raise Overloaded(
                "This server has as many live streams open as it can; try again.", retry_after=_RETRY_SECONDS
            )
        if len(self.of(connection.tenant_id)) >= self._tenant_most:
            raise StreamLimitReached(self._tenant_most)
        self._by_tenant.setdefault(connection.tenant_id, set()).add(connection)
        self._count += 1
        _open.inc()

    def remove(self, connection: Connection) -> None:
        readers = self._by_tenant[connection.tenant_id]
        readers.remove(connection)
        if not readers:
            del self._by_tenant[connection.tenant_id]
        self._count -= 1
        _open.dec()
        connection.close()

    def of(self, tenant_id: uuid.UUID) -> set[Connection]:
        return self._by_tenant.get(tenant_id, set())

    def all(self) -> list[Connection]:
        return [connection for readers in self._by_tenant.values() for connection in readers]
