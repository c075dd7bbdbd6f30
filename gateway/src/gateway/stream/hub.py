"""One reader of EVENTS for the whole process, telling each message to the open streams of its workspace.

Nothing is lost or told twice where the past meets the present: a reader joins between two messages, at the hub's
position. What lies before comes from the stream (`missed`), what comes after from the hub.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence

import structlog
from nats.aio.msg import Msg
from nats.js.api import StreamState
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Gauge, Histogram

from gateway.settings import GatewaySettings
from gateway.stream import frames, replay
from gateway.stream.connections import Connection, Connections
from gateway.stream.positions import Position
from gateway.stream.replay import Batch, Missed, ReplayFailed
from kit import streams, telemetry
from kit.bus import Bus
from kit.errors import Unavailable
from kit.events import EventMalformed
from kit.metrics import SECONDS
from kit.tail import OUTAGES, Interrupted, Tail, pause

log = structlog.get_logger()

RESET = "stream.reset"
"""Event: what the reader knows may be old, and it must load it afresh."""

_REPLAYS_MAX = 8
_END_SECONDS = 0.5
_RESET_DETAIL = "Too much was missed, or it is no longer kept: load what you show afresh."

_behind = Gauge("aerostic_stream_hub_behind_messages", "Messages of EVENTS that the hub has not read yet")
_delay = Histogram(
    "aerostic_stream_hub_delay_seconds", "Time from a message's storage in EVENTS to its delivery", buckets=SECONDS
)
_malformed = Counter("aerostic_stream_malformed_total", "Messages of EVENTS that are no events of ours")
_resets = Counter("aerostic_stream_resets_total", "Readers that were told to load everything afresh")


class Hub:
    """Reads while `run` does. Readers join and leave at any time."""

    def __init__(self, bus: Bus, settings: GatewaySettings) -> None:
        self._bus = bus
        self._resume_max = settings.stream_resume_events_max
        self._connections = Connections(
            most=settings.stream_connections_max, tenant_most=settings.stream_tenant_connections_max
        )
        self._tail: Tail | None = None
        self._stopped = False
        # A thousand browsers that come back at once must not make the server search for all of them at once.
        self._replays = asyncio.Semaphore(_REPLAYS_MAX)

    async def run(self, stop: asyncio.Event) -> None:
        """Read until `stop`, then end all streams. NATS being away only delays."""
        reading = asyncio.create_task(self._read())
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([reading, stopping], return_when=asyncio.FIRST_COMPLETED)
            if reading in done:
                await reading
        finally:
            self._stopped = True
            self._end_all("SERVER_STOPPING")
            stopping.cancel()
            while not reading.done():
                # wait_for, which the NATS client uses, loses a cancellation that comes together with its answer.
                reading.cancel()
                await asyncio.wait([reading], timeout=_END_SECONDS)
            await asyncio.gather(reading, stopping, return_exceptions=True)

    def join(self, connection: Connection) -> Position:
        """Begin telling a reader what happens from now on; gives the position of now. Raises StreamLimitReached,
        Overloaded, or Unavailable while the hub does not read.
        """
        position = self.position
        self._connections.add(connection)
        return position

    def leave(self, connection: Connection) -> None:
        self._connections.remove(connection)

    @property
    def position(self) -> Position:
        """All before and at it was told. Raises Unavailable."""
        if self._tail is None or self._stopped:
            raise Unavailable("The live stream is not ready; try again shortly.")
        return Position(self._tail.last)

    async def missed(self, connection: Connection, *, since: Position, until: Position) -> AsyncIterator[bytes]:
        """What a reader missed up to where it joined, or an event that tells it to start afresh. Raises Unavailable."""
        state = await self._state()
        if since.sequence > state.last_seq or state.first_seq > since.next_sequence:
            yield self._reset(connection)
            return
        told, sequence = 0, since.next_sequence
        while sequence <= until.sequence:
            batch = await self._fetch(connection.tenant_id, sequence)
            if len(batch.messages) + batch.left > self._resume_max:
                yield self._reset(connection)
                return
            pieces: list[bytes] = []
            for message in batch.messages:
                if message.sequence <= until.sequence:
                    pieces += _tell_missed(connection, message)
                sequence = message.sequence + 1
            told += len(pieces)
            if told > self._resume_max:
                yield self._reset(connection)
                return
            yield b"".join(pieces)
            if not batch.left:
                break
        connection.seen = max(connection.seen, until)

    async def _read(self) -> None:
        while True:
            try:
                await self._begin()
                assert self._tail is not None
                async for message in self._tail.messages():
                    self._deliver(message)
            except (Interrupted, *OUTAGES) as error:
                log.warning("stream_hub_interrupted", error=str(error) or type(error).__name__)
            await pause()

    async def _begin(self) -> None:
        state = (await self._bus.js.stream_info(streams.EVENTS)).state
        if self._tail is None:
            self._tail = Tail(self._bus, "gateway", last=state.last_seq)
        elif state.last_seq < self._tail.last or state.first_seq > self._tail.last + 1:
            # The stream was made anew, or has forgotten what we have not read: readers come again and learn of it.
            log.error("stream_hub_lost_its_place", last=self._tail.last, first_kept=state.first_seq)
            self._tail.last = state.last_seq
            self._end_all("EVENTS_LOST")

    def _deliver(self, message: Msg) -> None:
        metadata = message.metadata
        _behind.set(metadata.num_pending)
        tenant_id = frames.tenant_of(message.subject)
        readers = list(self._connections.of(tenant_id)) if tenant_id else []
        if tenant_id is None or not readers:
            return
        headers, sequence = message.headers or {}, metadata.sequence.stream
        if traceparent := headers.get(telemetry.HEADER):
            parent = {telemetry.HEADER: traceparent}
            with telemetry.span(
                "stream deliver", parent=parent, kind=SpanKind.CONSUMER, sequence=sequence, readers=len(readers)
            ):
                _tell_all(readers, tenant_id, sequence, headers, message.data)
        else:
            # Even a span that nobody keeps takes as long as telling three readers.
            _tell_all(readers, tenant_id, sequence, headers, message.data)
        _delay.observe(max(0.0, time.time() - metadata.timestamp.timestamp()))

    def _reset(self, connection: Connection) -> bytes:
        _resets.inc()
        connection.seen = self.position
        return frames.print_event(connection.seen, RESET, {"detail": _RESET_DETAIL})

    async def _state(self) -> StreamState:
        try:
            async with self._replays:
                return (await self._bus.js.stream_info(streams.EVENTS)).state
        except OUTAGES as error:
            raise _unavailable() from error

    async def _fetch(self, tenant_id: uuid.UUID, since: int) -> Batch:
        try:
            async with self._replays:
                return await replay.fetch(self._bus, tenant_id, since=since)
        except (ReplayFailed, *OUTAGES) as error:
            raise _unavailable() from error

    def _end_all(self, because: str) -> None:
        for connection in self._connections.all():
            connection.end(because)


def _tell_all(
    readers: Sequence[Connection], tenant_id: uuid.UUID, sequence: int, headers: dict[str, str], data: bytes
) -> None:
    try:
        told = frames.tell(sequence, tenant_id, headers, data)
    except EventMalformed as error:
        _malformed.inc()
        log.warning("stream_message_malformed", sequence=sequence, error=str(error))
        return
    for reader in readers:
        reader.offer(told)


def _tell_missed(connection: Connection, message: Missed) -> list[bytes]:
    try:
        told = frames.tell(message.sequence, connection.tenant_id, message.headers, message.data)
    except EventMalformed:
        return []  # counted when it was new
    return [connection.tell([frame]) for frame in told.frames if connection.wants(frame)]


def _unavailable() -> Unavailable:
    return Unavailable("The live stream cannot read what you have missed; try again shortly.")
