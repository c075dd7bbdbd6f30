"""NATS JetStream as the services use it: publish with acknowledgement, pull in batches, acknowledge after commit."""

import asyncio
import base64
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import nats
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg as Msg  # noqa: PLC0414 (re-exported: consumers need no import of nats)
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import NotFoundError
from prometheus_client import Counter

from kit.acknowledged import Acknowledged

log = structlog.get_logger()

T = TypeVar("T")

DEAD_REASON, DEAD_DETAIL = "Aerostic-Reason", "Aerostic-Detail"
"""Headers of a dead letter: why a consumer gave it up."""
DEAD_SUBJECT, DEAD_SEQUENCE = "Aerostic-Subject", "Aerostic-Sequence"
"""Headers of a dead letter: where it came from."""

_redelivered = Counter(
    "aerostic_consumer_redeliveries_total", "Messages that came to a consumer again", ["stream", "consumer"]
)
_buried = Counter(
    "aerostic_buried_total", "Messages that a consumer gave up, by reason", ["stream", "consumer", "reason"]
)


class Bus:
    """One connection to NATS, reconnecting for ever."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.js: JetStreamContext = client.jetstream(timeout=10)
        self._pullers: weakref.WeakSet[Puller] = weakref.WeakSet()
        self._acknowledged = Acknowledged(client)
        self._missed: set[Callable[[], None]] = set()
        self._is_closing = False
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def connect(cls, url: str, *, name: str, fail_fast: bool = False) -> "Bus":
        """`fail_fast` refuses publishes while disconnected instead of keeping them in memory: the intake needs an
        honest error at once, so that Meta tries again.
        """

        async def lost() -> None:
            if not bus._is_closing:
                log.warning("bus_disconnected")

        async def back() -> None:
            log.info("bus_reconnected")
            bus._reconnected()

        async def failed(error: Exception) -> None:
            log.warning("bus_error", error=str(error) or type(error).__name__)

        place = urlsplit(url)
        client = await nats.connect(
            url,
            # Also for the other servers of a cluster, which the client learns from the first without credentials.
            user=unquote(place.username) if place.username else None,
            password=unquote(place.password) if place.password else None,
            name=name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,
            connect_timeout=5,
            ping_interval=10,
            max_outstanding_pings=2,
            disconnected_cb=lost,
            reconnected_cb=back,
            error_cb=failed,
            pending_size=-1 if fail_fast else 8 * 1024 * 1024,
        )
        bus = cls(client)
        await bus._acknowledged.open()
        return bus

    @property
    def reconnects(self) -> int:
        """How often the connection came back. What was on its way meanwhile is lost until it is delivered again."""
        return self.client.stats["reconnects"]

    def _reconnected(self) -> None:
        broken, self._broken = self._broken, asyncio.get_running_loop().create_future()
        broken.set_result(None)
        self._acknowledged.break_off()
        for puller in self._pullers:
            puller.ask_anew()
        for missed in list(self._missed):
            missed()

    async def ensure(self, *configs: StreamConfig) -> None:
        """Create streams that are missing and bring the others to this configuration. Safe from several processes."""
        for config in configs:
            assert config.name
            try:
                await self.js.stream_info(config.name)
            except NotFoundError:
                await self.js.add_stream(config)
            else:
                await self.js.update_stream(config)

    async def publish(self, subject: str, data: bytes, *, headers: dict[str, str] | None = None, key: str = "") -> int:
        """Publish and wait until it is on disk; gives the stream sequence. With a `key`, a repetition within two
        minutes is stored once. Raises ConnectionError as soon as the connection came back without the acknowledgement.
        """
        sent = dict(headers or {})
        if key:
            sent["Nats-Msg-Id"] = key
        return await self._acknowledged.publish(subject, data, sent or None)

    async def unless_broken(self, asking: Coroutine[Any, Any, T]) -> T:
        """What the server answers. Raises ConnectionError as soon as the connection came back without the answer, which
        then never comes.
        """
        connection = self.reconnects
        asked = asyncio.ensure_future(asking)
        try:
            while not asked.done():
                either: set[asyncio.Future[Any]] = {asked, self._broken}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if not asked.done() and connection != self.reconnects:
                    raise ConnectionError("The connection broke before the answer came.")
            return asked.result()
        finally:
            asked.cancel()

    async def bury(self, message: Msg, *, consumer: str, reason: str, detail: str) -> None:
        """Move a message that can never be processed to the dead letters, then acknowledge it."""
        origin = message.metadata
        headers = own_headers(message.headers or {}) | {
            DEAD_REASON: reason,
            # Header values are printable ASCII; anything else would break the frame.
            DEAD_DETAIL: detail.encode("ascii", "replace").decode().replace("\r", " ").replace("\n", " ")[:500],
            DEAD_SUBJECT: message.subject,
            DEAD_SEQUENCE: str(origin.sequence.stream),
        }
        key = f"dead-{origin.stream}-{consumer}-{origin.sequence.stream}"
        await self.publish(f"dead.{origin.stream}.{consumer}", message.data, headers=headers, key=key)
        await message.ack()
        _buried.labels(origin.stream, consumer, reason).inc()
        log.warning("message_buried", stream=origin.stream, consumer=consumer, reason=reason, detail=detail)

    async def acknowledge(self, reply: str) -> None:
        """Acknowledge a message by its reply subject, for whoever does so long after and need not keep the message."""
        await self.client.publish(reply, b"+ACK")

    async def puller(self, stream: str, durable: str, subject: str, *, limit: int, **options: Any) -> "Puller":
        """Attach to a durable consumer of one subject, creating it when missing. With `inactive_seconds` the server
        deletes it after so long without anybody who asks it; with `unacknowledged_max` it gives no more while so many
        are not acknowledged.
        """
        config = ConsumerConfig(
            durable_name=durable,
            filter_subject=subject,
            ack_policy=options.get("ack_policy", AckPolicy.EXPLICIT),
            ack_wait=options.get("ack_wait_seconds", 30),
            max_ack_pending=options.get("unacknowledged_max", max(limit * 2, 1000)),
            deliver_policy=DeliverPolicy.ALL,
            inactive_threshold=options.get("inactive_seconds"),
        )
        await self.js.add_consumer(stream, config)
        puller = Puller(self, stream, durable, limit=limit)
        self._pullers.add(puller)
        await puller.open()
        return puller

    async def follow(
        self, subject: str, heard: Callable[[Msg], Awaitable[None]], *, missed: Callable[[], None], stop: asyncio.Event
    ) -> None:
        """Hear what is published until `stop`, as caches do that forget what changed. Nothing is heard while the
        connection is broken: whenever it came back, `missed` is called.
        """
        subscription = await self.client.subscribe(subject, cb=heard)
        self._missed.add(missed)
        try:
            await stop.wait()
        finally:
            self._missed.discard(missed)
            await subscription.unsubscribe()

    async def close(self) -> None:
        """Publish what was to be published, and let go of the connection."""
        self._is_closing = True
        await self.client.drain() if self.client.is_connected else await self.client.close()


class Puller:
    """Keeps a standing request at a durable consumer and hands out whatever has arrived as one batch.

    While a batch is processed the next one gathers here, so batches grow with the load and a lone message waits for
    nobody. At most `limit` messages are in memory.
    """

    _EXPIRY_SECONDS = 30
    _HEARTBEAT_SECONDS = 2.0

    def __init__(self, bus: Bus, stream: str, durable: str, *, limit: int) -> None:
        self._bus = bus
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._inbox = bus.client.new_inbox()
        self._limit = limit
        self._arrived: list[Msg] = []
        self._requested = 0
        self._heard_at = 0.0
        self._wake = asyncio.Event()
        self._is_ending = False
        self._redeliveries = _redelivered.labels(stream, durable)

    async def open(self) -> None:
        self._subscription = await self._bus.client.subscribe(self._inbox, cb=self._on_message)

    async def batch(self, most: int, *, seconds: float) -> list[Msg]:
        """The messages that have arrived, `most` at most; empty when none comes within so many seconds."""
        deadline = _now() + seconds
        while not self._arrived and not self._is_ending and (left := deadline - _now()) > 0:
            await self._request_more()
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), min(left, self._HEARTBEAT_SECONDS))
            except TimeoutError:
                self._forget_lost_requests()
        taken, self._arrived = self._arrived[:most], self._arrived[most:]
        if taken:
            await self._request_more()
        return taken

    def end(self) -> None:
        """Ask for nothing more: batch() waits no longer, and gives what has arrived."""
        self._is_ending = True
        self._wake.set()

    def ask_anew(self) -> None:
        """The server has forgotten our request, as after its restart."""
        self._requested = 0
        self._wake.set()

    async def close(self) -> None:
        """Stop asking. Messages handed out but not acknowledged come again to the next consumer after the ack wait,
        those still waiting here at once.
        """
        await self._subscription.unsubscribe()
        for message in self._arrived:
            await message.nak()
        self._arrived = []

    async def _request_more(self) -> None:
        room = self._limit - len(self._arrived) - self._requested
        if room * 2 < self._limit:
            return
        nanoseconds = 1_000_000_000
        request = (
            f'{{"batch":{room},"expires":{self._EXPIRY_SECONDS * nanoseconds},'
            f'"idle_heartbeat":{int(self._HEARTBEAT_SECONDS * nanoseconds)}}}'
        )
        self._requested += room
        self._heard_at = _now()
        await self._bus.client.publish(self._next, request.encode(), reply=self._inbox)

    async def _on_message(self, message: Msg) -> None:
        self._heard_at = _now()
        status = (message.headers or {}).get("Status") if not message.data else None
        if status is None:
            self._requested = max(0, self._requested - 1)
            self._arrived.append(message)
            if not _is_first_delivery(message):
                self._redeliveries.inc()
        elif status != "100":  # 100 is the heartbeat; anything else ends one standing request
            unserved = (message.headers or {}).get("Nats-Pending-Messages")
            self._requested = max(0, self._requested - int(unserved)) if unserved else 0
        self._wake.set()

    def _forget_lost_requests(self) -> None:
        """Without a heartbeat the server has forgotten our request, as after its restart: ask anew."""
        if _now() - self._heard_at > 2.5 * self._HEARTBEAT_SECONDS:
            self._requested = 0


def own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What a message's publisher wrote: neither the server's headers nor those of a dead letter."""
    return {name: value for name, value in headers.items() if not name.startswith(("Nats-", "Aerostic-"))}


def _is_first_delivery(message: Msg) -> bool:
    """By the reply subject, $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<deliveries>.….<pending>[.<token>]."""
    tokens = message.reply.split(".")
    return tokens[4 if len(tokens) == 9 else 6] == "1"


def as_text(data: bytes) -> str:
    """Bytes for people: as they are when they are UTF-8, base64 otherwise."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()


def _now() -> float:
    return asyncio.get_running_loop().time()
