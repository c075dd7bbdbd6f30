"""Reading EVENTS in order from a sequence on, without an end and without gaps.

The server keeps a short-lived consumer for the reader. Whatever happens to it (a restart of the server, a lost message,
a silence), the reader makes a new one that begins after the last message it has seen.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from kit import streams
from kit.bus import Bus

log = structlog.get_logger()

_NANOSECONDS = 1_000_000_000
_BATCH = 512
_REQUEST_SECONDS = 30
_HEARTBEAT_SECONDS = 2
_SILENCE_SECONDS_MAX = 6.0
_LOOK_SECONDS = 0.5
_IDLE_CONSUMER_SECONDS = 60.0
_RETRY_SECONDS = 0.5
# What ends a request for more and nothing else: no message, asked for too long, too many at once.
_ENDS_OF_REQUESTS = ("404", "408")
# What NATS and its client raise while there is no connection, or the server is not ready.
OUTAGES = (nats.errors.Error, APIError, OSError, TimeoutError)


class Interrupted(Exception):
    """The consumer is gone or skipped something: a new one must take over."""


class Tail:
    """The reader. `last` is the sequence of the last message it gave, or has been told to begin after."""

    def __init__(self, bus: Bus, *, last: int) -> None:
        self.last = last
        self._bus = bus

    async def messages(self) -> AsyncIterator[Msg]:
        """Messages after `last`, until NATS or the consumer fails. Raises Interrupted or one of OUTAGES; calling it
        again goes on without gap or repetition.
        """
        name = await self._consumer()
        inbox = self._bus.client.new_inbox()
        # Holds no more than what was asked for.
        arrived: asyncio.Queue[Msg] = asyncio.Queue()
        subscription = await self._bus.client.subscribe(inbox, cb=arrived.put)
        try:
            async for message in _pull(self._bus, arrived, name, inbox):
                sequence = message.metadata.sequence.stream
                if sequence > self.last:
                    self.last = sequence
                    yield message
        finally:
            await _leave(subscription)

    async def _consumer(self) -> str:
        config = ConsumerConfig(
            name=f"gateway-{uuid.uuid4().hex}",
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.last + 1,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=_IDLE_CONSUMER_SECONDS,
            mem_storage=True,
            num_replicas=1,
        )
        created = await self._bus.js.add_consumer(streams.EVENTS, config)
        return created.name


async def _pull(bus: Bus, arrived: asyncio.Queue[Msg], name: str, inbox: str) -> AsyncIterator[Msg]:
    """What the consumer gives, asking for more before the last request is used up."""
    asked, expected = 0, 1
    while True:
        if asked < _BATCH // 2:
            await bus.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{streams.EVENTS}.{name}", _request(), reply=inbox)
            asked += _BATCH
        message = await _next(bus, arrived)
        status = (message.headers or {}).get("Status") if not message.data else None
        if status in _ENDS_OF_REQUESTS:
            unserved = (message.headers or {}).get("Nats-Pending-Messages")
            asked = max(0, asked - int(unserved)) if unserved else 0
        elif status is None:
            asked -= 1
            if message.metadata.sequence.consumer != expected:
                raise Interrupted("a message was lost on its way")
            expected += 1
            yield message
        elif status != "100":  # 100 is the heartbeat
            raise Interrupted(f"status {status}")


async def _next(bus: Bus, arrived: asyncio.Queue[Msg]) -> Msg:
    connection, silent_since = bus.client.stats["reconnects"], time.monotonic()
    while arrived.empty():
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                return await arrived.get()
        except TimeoutError:
            # The server forgets requests of a connection that broke.
            if bus.client.stats["reconnects"] != connection:
                raise Interrupted("reconnected") from None
            if time.monotonic() - silent_since > _SILENCE_SECONDS_MAX:
                raise Interrupted("no heartbeat") from None
    return arrived.get_nowait()


def _request() -> bytes:
    request = {
        "batch": _BATCH,
        "expires": _REQUEST_SECONDS * _NANOSECONDS,
        "idle_heartbeat": _HEARTBEAT_SECONDS * _NANOSECONDS,
    }
    return json.dumps(request).encode()


async def _leave(subscription: Subscription) -> None:
    """The server drops the consumer by itself when nobody asks it any more."""
    try:
        await subscription.unsubscribe()
    except nats.errors.Error:
        log.debug("stream_tail_left_while_disconnected")


async def pause() -> None:
    """Between a failure and the next try."""
    await asyncio.sleep(_RETRY_SECONDS)
