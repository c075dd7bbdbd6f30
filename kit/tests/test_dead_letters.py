"""Dead letters: listed with their reasons, and sent back once."""

import asyncio

import pytest

from kit import dead_letters, streams
from kit.bus import Bus


@pytest.fixture
async def bus(nats):
    bus = await Bus.connect(nats, name="test")
    await bus.ensure(streams.events(), streams.dead())
    yield bus
    await bus.close()


async def bury(bus, count, *, subject="events.a.b.c.d", consumer="reader", headers=None):
    puller = await bus.puller(streams.EVENTS, consumer, subject, limit=64)
    for number in range(count):
        await bus.publish(subject, str(number).encode(), headers=headers)
    buried = 0
    async with asyncio.timeout(60):
        while buried < count:
            for message in await puller.batch(count, seconds=1):
                await bus.bury(message, consumer=consumer, reason="malformed", detail=f"number {buried}")
                buried += 1
    await puller.close()


async def test_letters_are_listed_from_the_oldest_on_and_by_their_origin(bus):
    await bury(bus, 3)
    await bury(bus, 2, subject="events.x.b.c.d", consumer="other")
    found = await dead_letters.after(bus, 0, most=10)
    assert [(each.consumer, each.detail) for each in found] == [
        ("reader", "number 0"),
        ("reader", "number 1"),
        ("reader", "number 2"),
        ("other", "number 0"),
        ("other", "number 1"),
    ]
    assert {(each.stream, each.reason) for each in found} == {(streams.EVENTS, "malformed")}
    assert [each.id for each in await dead_letters.after(bus, found[0].id, most=2)] == [found[1].id, found[2].id]
    assert await dead_letters.after(bus, 0, most=10, consumer="other") == found[3:]
    assert await dead_letters.after(bus, 0, most=10, stream="META") == []


async def test_a_letter_goes_back_with_its_bytes_and_headers_and_is_gone(bus):
    await bury(bus, 1, headers={"ce-type": "a.b.c", "traceparent": "00-1"})
    [letter] = await dead_letters.after(bus, 0, most=1)
    await dead_letters.retry(bus, letter)
    back = await bus.js.get_last_msg(streams.EVENTS, "events.a.b.c.d")
    assert back.seq == 2
    assert (back.data, back.headers["ce-type"], back.headers["traceparent"]) == (b"0", "a.b.c", "00-1")
    assert not [name for name in back.headers if name.startswith("Aerostic-")]
    assert await dead_letters.find(bus, letter.id) is None


async def test_a_letter_of_a_tenants_own_partition_goes_to_the_shared_one_which_is_always_read(bus):
    await bus.ensure(streams.meta())
    subject = "meta.019d0a3e-0000-7000-8000-00000000000a-0"
    puller = await bus.puller(streams.META, "reader", subject, limit=2)
    await bus.publish(subject, b"no envelope")
    [message] = await puller.batch(1, seconds=20)
    await bus.bury(message, consumer="inbox", reason="malformed", detail="")
    [letter] = await dead_letters.after(bus, 0, most=1, stream=streams.META)
    assert letter.subject == subject
    await dead_letters.retry(bus, letter)
    assert (await bus.js.get_last_msg(streams.META, "meta.0")).data == b"no envelope"


async def test_two_who_send_one_letter_back_at_once_publish_it_once(bus):
    await bury(bus, 1)
    [letter] = await dead_letters.after(bus, 0, most=1)
    await asyncio.gather(dead_letters.retry(bus, letter), dead_letters.retry(bus, letter))
    assert (await bus.js.stream_info(streams.EVENTS)).state.messages == 2


async def test_what_is_buried_again_is_another_letter(bus):
    await bury(bus, 1)
    [first] = await dead_letters.after(bus, 0, most=1)
    await dead_letters.retry(bus, first)
    await bury(bus, 1)  # it and a new one
    puller = await bus.puller(streams.EVENTS, "reader", "events.a.b.c.d", limit=64)
    [message] = await puller.batch(10, seconds=60)
    await bus.bury(message, consumer="reader", reason="malformed", detail="again")
    await puller.close()
    assert len({each.id for each in await dead_letters.after(bus, 0, most=10)} - {first.id}) == 2


async def test_all_letters_of_a_consumer_go_back_in_order(bus):
    await bury(bus, 5)
    await bury(bus, 1, subject="events.x.b.c.d", consumer="other")
    sent = await dead_letters.retry_all(bus, stream=streams.EVENTS, consumer="reader", most=3)
    assert [each.data for each in sent] == [b"0", b"1", b"2"]
    left = await dead_letters.after(bus, 0, most=10)
    assert [(each.consumer, each.data) for each in left] == [("reader", b"3"), ("reader", b"4"), ("other", b"0")]


async def test_without_room_in_its_stream_a_letter_stays(bus):
    await bury(bus, 1)
    [letter] = await dead_letters.after(bus, 0, most=1)
    full = streams.events().evolve(max_msgs=1, discard="new")
    await bus.js.update_stream(full)
    with pytest.raises(Exception, match="maximum messages") as refused:
        await dead_letters.retry(bus, letter)
    assert dead_letters.as_app_error(refused.value).reason == "UNAVAILABLE"
    assert await dead_letters.find(bus, letter.id) == letter
