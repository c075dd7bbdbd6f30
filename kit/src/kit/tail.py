"""Reading a stream in order from a sequence on, without an end and without gaps.

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
# More than the largest message may have, so that a request is never too small for one.
_BATCH_BYTES = 8 * 1024 * 1024
_REQUEST_SECONDS = 30
_HEARTBEAT_SECONDS = 2
_SILENCE_SECONDS_MAX = 6.0
_LOOK_SECONDS = 0.5
_IDLE_CONSUMER_SECONDS = 60.0
_RETRY_SECONDS = 0.5
# What ends a request for more and nothing else: no message, asked for too long.
_ENDS_OF_REQUESTS = ("404", "408")
# Status 409 says many things; these, that all messages of a request have come, or no further one fits into it.
_USED_UP = ("Batch Completed", "Message Size Exceeds MaxBytes")
# What NATS and its client raise while there is no connection, or the server is not ready.
OUTAGES = (nats.errors.Error, APIError, OSError, TimeoutError)


class Interrupted(Exception):
    """The consumer is gone or skipped something: a new one must take over."""


class Tail:
    """The reader. `last` is the sequence of the last message it gave, or has been told to begin after."""

    def __init__(self, bus: Bus, name: str, *, last: int, stream: str = streams.EVENTS) -> None:
        """`name` begins the name that the server's list of consumers shows."""
        self.last = last
        self._bus = bus
        self._name = name
        self._stream = stream

    async def messages(self) -> AsyncIterator[Msg]:
        """Messages after `last`, until NATS or the consumer fails. Raises Interrupted or one of OUTAGES; calling it
        again goes on without gap or repetition.
        """
        async for batch in self.batches(1):
            yield batch[0]

    async def batches(self, most: int) -> AsyncIterator[list[Msg]]:
        """As `messages`, but all that have arrived together, at most so many: never none."""
        consumer = await self._consumer()
        inbox = self._bus.client.new_inbox()
        # Holds no more than what was asked for.
        arrived: asyncio.Queue[Msg] = asyncio.Queue()
        subscription = await self._bus.client.subscribe(inbox, cb=arrived.put)
        try:
            async for batch in _pull(self._bus, arrived, f"{self._stream}.{consumer}", inbox, most):
                self.last = batch[-1].metadata.sequence.stream
                yield batch
        finally:
            await _leave(subscription)

    async def _consumer(self) -> str:
        config = ConsumerConfig(
            name=f"{self._name}-{uuid.uuid4().hex}",
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.last + 1,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=_IDLE_CONSUMER_SECONDS,
            mem_storage=True,
            num_replicas=1,
        )
        created = await self._bus.js.add_consumer(self._stream, config)
        return created.name


async def _pull(
    bus: Bus, arrived: asyncio.Queue[Msg], consumer: str, inbox: str, most: int
) -> AsyncIterator[list[Msg]]:
    """What the consumer gives, asking for more before the last request is used up."""
    asked, expected = 0, 1
    while True:
        if asked < _BATCH // 2:
            await bus.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{consumer}", _request(), reply=inbox)
            asked += _BATCH
        batch: list[Msg] = []
        message = await _next(bus, arrived)
        while True:
            status = (message.headers or {}).get("Status") if not message.data else None
            if status is None:
                asked -= 1
                if message.metadata.sequence.consumer != expected:
                    raise Interrupted("a message was lost on its way")
                expected += 1
                batch.append(message)
            else:
                asked = max(0, asked - _unserved(status, message.headers or {}))
            if len(batch) >= most or arrived.empty():
                break
            message = arrived.get_nowait()
        if batch:
            yield batch


def _unserved(status: str, headers: dict[str, str]) -> int:
    """How much of a request is over without a message. Raises Interrupted where the consumer is."""
    if status in _ENDS_OF_REQUESTS or (status == "409" and headers.get("Description") in _USED_UP):
        return int(headers.get("Nats-Pending-Messages", "0"))
    if status != "100":  # 100 is the heartbeat
        raise Interrupted(f"status {status}")
    return 0


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
        "max_bytes": _BATCH_BYTES,
        "expires": _REQUEST_SECONDS * _NANOSECONDS,
        "idle_heartbeat": _HEARTBEAT_SECONDS * _NANOSECONDS,
    }
    return json.dumps(request).encode()


async def _leave(subscription: Subscription) -> None:
    """The server drops the consumer by itself when nobody asks it any more."""
    try:
        await subscription.unsubscribe()
    except nats.errors.Error:
        log.debug("tail_left_while_disconnected")


async def pause() -> None:
    """Between a failure and the next try."""
    await asyncio.sleep(_RETRY_SECONDS)
