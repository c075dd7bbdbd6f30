"""Pulling in batches, acknowledging after work, and burying what cannot be processed."""

import asyncio

import pytest
import structlog

from kit import streams
from kit.bus import Bus


@pytest.fixture
async def bus(nats):
    bus = await Bus.connect(nats, name="test")
    await bus.ensure(streams.events(), streams.dead())
    yield bus
    await bus.close()


async def gather_batches(puller, count: int) -> list[bytes]:
    got: list[bytes] = []
    async with asyncio.timeout(60):
        while len(got) < count:
            for message in await puller.batch(100, seconds=1):
                got.append(message.data)
                await message.ack()
    return got


async def test_every_message_comes_once_and_in_order(bus):
    puller = await bus.puller(streams.EVENTS, "reader", "events.>", limit=64)
    for number in range(300):
        await bus.publish("events.a.b.c.d", str(number).encode())
    assert await gather_batches(puller, 300) == [str(number).encode() for number in range(300)]
    assert await puller.batch(1, seconds=0.2) == []
    await puller.close()


async def test_a_lone_message_does_not_wait_for_others(bus):
    puller = await bus.puller(streams.EVENTS, "reader", "events.>", limit=64)
    waiting = asyncio.create_task(puller.batch(100, seconds=30))
    await bus.publish("events.a.b.c.d", b"one")
    async with asyncio.timeout(60):
        assert [message.data for message in await waiting] == [b"one"]
    await puller.close()


async def test_what_was_not_acknowledged_comes_again_to_the_next_reader(bus):
    first = await bus.puller(streams.EVENTS, "reader", "events.>", limit=64, ack_wait_seconds=1)
    await bus.publish("events.a.b.c.d", b"one")
    assert len(await first.batch(1, seconds=60)) == 1
    await first.close()
    second = await bus.puller(streams.EVENTS, "reader", "events.>", limit=64, ack_wait_seconds=1)
    # It comes once more whenever a second passes before it is acknowledged.
    assert set(await gather_batches(second, 1)) == {b"one"}
    await second.close()


async def test_a_buried_message_keeps_its_bytes_and_its_reason(bus):
    puller = await bus.puller(streams.EVENTS, "reader", "events.>", limit=64)
    await bus.publish("events.a.b.c.d", b"\xff")
    [message] = await puller.batch(1, seconds=60)
    await bus.bury(message, consumer="reader", reason="malformed", detail="not JSON: \n ü")
    dead = await bus.js.get_msg(streams.DEAD, 1)
    assert dead.data == b"\xff"
    assert dead.headers["Aerostic-Reason"] == "malformed"
    assert dead.headers["Aerostic-Detail"] == "not JSON:   ?"
    await puller.close()


async def test_a_publish_with_a_key_is_stored_once(bus):
    first = await bus.publish("events.a.b.c.d", b"one", key="k")
    assert await bus.publish("events.a.b.c.d", b"one", key="k") == first


async def test_closing_is_no_disconnection_and_losing_the_connection_is_one(nats):
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            bus = await Bus.connect(nats, name="test")
            await bus.close()
        assert logs == []
        bus = await Bus.connect(nats, name="test")
        bus.client._transport.close()  # as a network does that breaks
        async with asyncio.timeout(60):
            while "bus_reconnected" not in [each["event"] for each in logs]:  # noqa: ASYNC110 (nobody else is told)
                await asyncio.sleep(0.02)
        await bus.close()
    told = [each["event"] for each in logs if each["event"] != "bus_error"]
    assert told == ["bus_disconnected", "bus_reconnected"]


async def test_what_is_published_as_soon_as_the_connection_is_back_is_not_broken_off(bus):
    for number in range(5):
        bus.client._transport.close()  # as a network does that breaks
        async with asyncio.timeout(60):
            while bus.client.stats["reconnects"] <= number:  # noqa: ASYNC110 (before the client tells)
                await asyncio.sleep(0)
        assert await bus.unless_broken(bus.publish("events.a.b.c.d", b"one")) == number + 1


async def test_who_waits_for_messages_is_let_go_at_the_end(bus):
    puller = await bus.puller(streams.EVENTS, "reader", "events.>", limit=64)
    waiting = asyncio.create_task(puller.batch(100, seconds=3600))
    await asyncio.sleep(0)
    puller.end()
    assert await asyncio.wait_for(waiting, 30) == []
    await puller.close()


async def test_a_reader_that_may_have_more_in_hand_than_before_gets_it(bus):
    for given, most in (({}, 1000), ({"unacknowledged_max": 5000}, 5000)):
        puller = await bus.puller(streams.EVENTS, "reader", "events.>", limit=64, **given)
        info = await bus.js.consumer_info(streams.EVENTS, "reader")
        assert info.config.max_ack_pending == most
        await puller.close()
