"""What waits in the streams, as metrics: how much, for whom, and since when. Nothing on the way of a message pays for
it: one task asks the server every few seconds.

Every process that watches a stream tells the same; a query takes the maximum over them.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime

import nats.errors
import structlog
from nats.js.api import ConsumerInfo
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError
from prometheus_client import Gauge

from kit.bus import Bus
from kit.streams import DEAD

log = structlog.get_logger()

_SECONDS = 5.0
_CONSUMERS_A_PAGE = 256
_BY_CONSUMER = ["stream", "consumer"]

_messages = Gauge("aerostic_stream_messages", "Messages that a stream holds", ["stream"])
_bytes = Gauge("aerostic_stream_bytes", "Bytes that a stream holds", ["stream"])
_pending = Gauge("aerostic_consumer_pending", "Messages that a consumer has not been given yet", _BY_CONSUMER)
_in_hand = Gauge("aerostic_consumer_in_hand", "Messages given to a consumer and not acknowledged yet", _BY_CONSUMER)
_again = Gauge("aerostic_consumer_redelivering", "Those in hand that were given more than once", _BY_CONSUMER)
_oldest = Gauge(
    "aerostic_consumer_oldest_seconds", "Age of the oldest message that a consumer has not acknowledged", _BY_CONSUMER
)
_of_consumers = (_pending, _in_hand, _again, _oldest)
_known: dict[str, set[str]] = {}
"""Consumers that are named, by stream: those that are gone are named no longer."""
_dead = Gauge("aerostic_dead_letters", "Dead letters that wait for somebody to look", _BY_CONSUMER)
_oldest_dead = Gauge("aerostic_dead_letters_oldest_seconds", "Age of the oldest dead letter")


async def run(bus: Bus, watched: Sequence[str], stop: asyncio.Event) -> None:
    """Keep the metrics of these streams until told to stop; while NATS is away they keep their last values."""
    while not stop.is_set():
        try:
            await look(bus, watched)
        except (nats.errors.Error, JetStreamError, TimeoutError, ConnectionError) as error:
            log.warning("streams_not_watched", error=repr(error))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _SECONDS)


async def look(bus: Bus, watched: Sequence[str]) -> None:
    """Set the metrics to what is so now."""
    for stream in watched:
        with contextlib.suppress(NotFoundError):
            if stream == DEAD:
                await _look_at_dead_letters(bus)
            else:
                await _look_at(bus, stream)


async def _look_at(bus: Bus, stream: str) -> None:
    state = (await bus.js.stream_info(stream)).state
    _messages.labels(stream).set(state.messages)
    _bytes.labels(stream).set(state.bytes)
    consumers = await _consumers(bus, stream)
    _forget_gone(stream, {consumer.name for consumer in consumers})
    for consumer in consumers:
        labels = (stream, consumer.name)
        in_hand = consumer.num_ack_pending or 0
        _pending.labels(*labels).set(consumer.num_pending or 0)
        _in_hand.labels(*labels).set(in_hand)
        _again.labels(*labels).set(consumer.num_redelivered or 0)
        waits = in_hand or consumer.num_pending
        _oldest.labels(*labels).set(await _age_of_oldest(bus, consumer) if waits else 0)


def _forget_gone(stream: str, names: set[str]) -> None:
    for gone in _known.get(stream, set()) - names:
        for gauge in _of_consumers:
            gauge.remove(stream, gone)
    _known[stream] = names


async def _look_at_dead_letters(bus: Bus) -> None:
    state = (await bus.js.stream_info(DEAD, subjects_filter=">")).state
    _messages.labels(DEAD).set(state.messages)
    _bytes.labels(DEAD).set(state.bytes)
    _dead.clear()  # subjects without a letter are not named any more
    for subject, count in (state.subjects or {}).items():
        _, stream, consumer = subject.split(".", 2)
        _dead.labels(stream, consumer).set(count)
    _oldest_dead.set(await _age_from(bus, DEAD, ">", state.first_seq) if state.messages else 0)


async def _consumers(bus: Bus, stream: str) -> list[ConsumerInfo]:
    """The durable ones: readers that come back. Others are gone with whoever reads."""
    found: list[ConsumerInfo] = []
    while True:
        page = await bus.js.consumers_info(stream, offset=len(found))
        found += page
        if len(page) < _CONSUMERS_A_PAGE:
            return [each for each in found if each.config.durable_name]


async def _age_of_oldest(bus: Bus, consumer: ConsumerInfo) -> float:
    floor = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
    return await _age_from(bus, consumer.stream_name, consumer.config.filter_subject or ">", floor + 1)


async def _age_from(bus: Bus, stream: str, subject: str, sequence: int) -> float:
    """Seconds since the first message of a subject at or beyond this place was stored; 0 where there is none."""
    try:
        message = await bus.js.get_msg(stream, sequence, subject=subject, next=True)
    except NotFoundError:
        return 0
    return max(0.0, (datetime.now(UTC) - message.time).total_seconds()) if message.time else 0
