"""Reading in order from a place on: without gap or repetition, however much it is and whatever breaks."""

import asyncio

import pytest

from kit import streams
from kit.bus import Bus
from kit.tail import Interrupted, Tail


@pytest.fixture
async def bus(nats):
    bus = await Bus.connect(nats, name="test")
    await bus.ensure(streams.events())
    yield bus
    await bus.close()


async def read(tail: Tail, count: int, *, most: int = 100) -> list[bytes]:
    got: list[bytes] = []
    async with asyncio.timeout(30):
        async for batch in tail.batches(most):
            assert 0 < len(batch) <= most
            got += [message.data for message in batch]
            if len(got) >= count:
                return got
    raise AssertionError("a tail has no end")


async def test_it_reads_on_from_its_place(bus):
    places = [await bus.publish("events.a.b.c.t", str(number).encode()) for number in range(1500)]
    assert await read(Tail(bus, "test", last=places[9]), 1490) == [str(number).encode() for number in range(10, 1500)]


async def test_large_messages_come_in_requests_of_bounded_bytes(bus):
    large = [bytes([number]) * 900_000 for number in range(24)]
    for data in large:
        await bus.publish("events.a.b.c.t", data)
    assert await read(Tail(bus, "test", last=0), len(large)) == large


async def test_after_an_interruption_it_goes_on_behind_what_it_gave(bus):
    for number in range(10):
        await bus.publish("events.a.b.c.t", str(number).encode())
    tail = Tail(bus, "test", last=0)
    seen: list[bytes] = []

    async def read_and_break() -> None:
        async for message in tail.messages():
            seen.append(message.data)
            if len(seen) == 4:
                [consumer] = await bus.js.consumers_info(streams.EVENTS)
                await bus.js.delete_consumer(streams.EVENTS, consumer.name)
                await bus.publish("events.a.b.c.t", b"10")

    with pytest.raises(Interrupted):
        await asyncio.wait_for(read_and_break(), 30)
    assert len(seen) >= 4
    seen += await read(tail, 11 - len(seen))
    assert seen == [str(number).encode() for number in range(11)]
