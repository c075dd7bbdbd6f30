"""Metrics of streams and consumers say what is so."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from kit import streams, watch
from kit.bus import Bus


@pytest.fixture
async def bus(nats):
    bus = await Bus.connect(nats, name="test")
    await bus.ensure(streams.events(), streams.dead())
    yield bus
    await bus.close()


def told(name, **labels):
    return REGISTRY.get_sample_value(f"aerostic_{name}", labels)


async def test_what_waits_and_since_when_is_told(bus):
    reader = {"stream": streams.EVENTS, "consumer": "reader"}
    puller = await bus.puller(streams.EVENTS, "reader", "events.a.>", limit=2, ack_wait_seconds=1)
    await bus.publish("events.other.b.c.d", b"of nobody")
    for number in range(5):
        await bus.publish("events.a.b.c.d", str(number).encode())
    taken = await puller.batch(2, seconds=60)
    assert taken
    await asyncio.sleep(0.5)
    await watch.look(bus, [streams.EVENTS])
    assert told("stream_messages", stream=streams.EVENTS) == 6
    assert told("stream_bytes", stream=streams.EVENTS) > 0
    assert told("consumer_pending", **reader) + told("consumer_in_hand", **reader) == 5
    assert told("consumer_oldest_seconds", **reader) >= 0.5

    # What was taken comes again, and so does whatever is not acknowledged within a second.
    acknowledged: set[bytes] = set()
    async with asyncio.timeout(60):
        while len(acknowledged) < 5:
            for message in await puller.batch(2, seconds=1):
                await message.ack_sync(timeout=30)
                acknowledged.add(message.data)
    await watch.look(bus, [streams.EVENTS])
    assert told("consumer_pending", **reader) == told("consumer_in_hand", **reader) == 0
    assert told("consumer_oldest_seconds", **reader) == 0
    await puller.close()


async def test_redeliveries_are_counted(bus):
    labels = {"stream": streams.EVENTS, "consumer": "again"}
    puller = await bus.puller(streams.EVENTS, "again", "events.a.>", limit=10)
    before = told("consumer_redeliveries_total", **labels)
    await bus.publish("events.a.b.c.d", b"one")
    [message] = await puller.batch(1, seconds=60)
    assert told("consumer_redeliveries_total", **labels) == before
    await message.nak()
    [message] = await puller.batch(1, seconds=60)
    assert told("consumer_redeliveries_total", **labels) == before + 1
    await watch.look(bus, [streams.EVENTS])
    assert told("consumer_redelivering", **labels) == 1
    await message.ack()
    await puller.close()


async def test_dead_letters_are_counted_by_their_origin_until_they_are_gone(bus):
    labels = {"stream": streams.EVENTS, "consumer": "reader"}
    puller = await bus.puller(streams.EVENTS, "reader", "events.a.>", limit=10)
    await bus.publish("events.a.b.c.d", b"one")
    [message] = await puller.batch(1, seconds=60)
    before = told("buried_total", **labels, reason="malformed") or 0
    await bus.bury(message, consumer="reader", reason="malformed", detail="x")
    await watch.look(bus, [streams.DEAD])
    assert told("dead_letters", **labels) == 1
    assert told("buried_total", **labels, reason="malformed") == before + 1
    assert told("dead_letters_oldest_seconds") >= 0
    await bus.js.purge_stream(streams.DEAD)
    await watch.look(bus, [streams.DEAD])
    assert told("dead_letters", **labels) is None
    assert told("dead_letters_oldest_seconds") == 0
    await puller.close()


async def test_a_stream_that_is_not_there_yet_is_no_failure(bus):
    await watch.look(bus, [streams.META, streams.DEAD])


async def test_a_consumer_that_is_gone_is_not_named_any_more(bus):
    reader = {"stream": streams.EVENTS, "consumer": "gone"}
    puller = await bus.puller(streams.EVENTS, "gone", "events.a.>", limit=2)
    await puller.close()
    await watch.look(bus, [streams.EVENTS])
    assert told("consumer_pending", **reader) == 0
    await bus.js.delete_consumer(streams.EVENTS, "gone")
    await watch.look(bus, [streams.EVENTS])
    assert told("consumer_pending", **reader) is None
    assert told("consumer_oldest_seconds", **reader) is None
