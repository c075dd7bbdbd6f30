"""A reader that comes back gets exactly what it missed."""

import asyncio
import random
import uuid

import pytest

from kit import streams
from kit.bus import Bus


async def make_history(live, *, messages: int) -> list[tuple[str, int]]:
    """Single events and batches among those of strangers; gives id and number of ours."""
    history: list[tuple[str, int]] = []
    number = 0
    for _ in range(messages):
        if random.random() < 0.4:
            await live.publish(-1, tenant_id=uuid.uuid4())
        numbers = list(range(number, number + random.randint(1, 4)))
        number += len(numbers)
        sequence = await live.publish(*numbers)
        history += [(f"{sequence}-{offset}", each) for offset, each in enumerate(numbers)]
    return history


async def test_resuming_at_any_event_gives_exactly_those_after_it_in_order(live):
    history = await make_history(live, messages=25)
    everything = [number for _, number in history]
    after = len(everything)
    await live.publish(after)
    for place, (last_id, _) in enumerate(history):
        async with live.open(last_id) as reader:
            expected = [*everything[place + 1 :], after]
            assert await reader.numbers(len(expected)) == expected


async def test_resuming_while_events_pour_in_gives_each_once_and_in_order(live):
    count = 400
    await live.publish(0)

    async def pour() -> None:
        for number in range(1, count):
            await live.publish(number)

    pouring = asyncio.create_task(pour())
    got: list[int] = []
    last_id = "0"
    async with asyncio.timeout(60):
        while len(got) < count:
            async with live.open(last_id) as reader:
                got += await reader.numbers(min(random.randint(1, 40), count - len(got)))
                last_id = reader.last_id
    await pouring
    assert got == list(range(count))


async def test_what_was_missed_spans_many_batches_of_the_server(live):
    count = 700
    for number in range(count):
        await live.publish(number)
    async with live.open("0") as reader:
        assert await reader.numbers(count) == list(range(count))


async def test_messages_as_large_as_what_the_server_gives_at_once_come_whole(live):
    for number in range(5):
        await live.publish(number, padding="x" * 900_000)
    async with live.open("0") as reader:
        events = [await reader.event() for _ in range(5)]
    assert [told.number for told in events] == list(range(5))
    assert {len(told.data["data"]["padding"]) for told in events} == {900_000}


async def test_the_parameter_does_what_the_header_does(live):
    first = await live.publish(1)
    await live.publish(2)
    headers = {"Authorization": f"Bearer {live.token()}"}
    async with live.http.get(live.url, headers=headers, params={"lastEventId": f"{first}-0"}) as response:
        async with asyncio.timeout(60):
            text = (await response.content.readuntil(b"messages/2")).decode()
    assert "messages/1" not in text


async def test_a_page_that_saw_nothing_yet_goes_on_from_when_it_came(live):
    await live.publish(1)
    await live.caught_up(1)
    async with live.reading() as reader:
        last_id = reader.last_id
    await live.publish(2)
    async with live.open(last_id) as reader:
        assert (await reader.event()).number == 2


@pytest.mark.parametrize("bad", ["", "x", "1-", "-1", "1-2-3", "1 ", "9" * 20, "\u0661", "1-" + "9" * 10])
@pytest.mark.parametrize("place", ["Last-Event-ID", "lastEventId"])
async def test_an_id_that_is_none_is_refused_with_name_and_rule(live, bad, place):
    headers = {"Authorization": f"Bearer {live.token()}"}
    is_header = place == "Last-Event-ID"
    if is_header and bad in {"1 ", "\u0661"}:
        return  # HTTP itself trims or refuses these
    given = {"headers": headers | {place: bad}} if is_header else {"headers": headers, "params": {place: bad}}
    async with live.http.get(live.url, **given) as response:
        problem = await response.json()
    assert (response.status, problem["code"]) == (400, "INVALID_REQUEST")
    assert problem["errors"][0]["field"] == place
    assert problem["errors"][0]["rule"].endswith("last_event_id")


async def test_an_unknown_parameter_is_refused(live):
    headers = {"Authorization": f"Bearer {live.token()}"}
    async with live.http.get(live.url, headers=headers, params={"since": "1"}) as response:
        problem = await response.json()
    assert (response.status, problem["errors"][0]["field"]) == (400, "since")


async def test_who_missed_too_much_is_told_to_start_afresh_and_goes_on_from_there(run_live):
    async with run_live(stream_resume_events_max=10) as live:
        for number in range(12):
            sequence = await live.publish(number)
        await live.caught_up(sequence)
        async with live.open("0") as reader:
            reset = await reader.event()
            assert (reset.event, reset.id) == ("stream.reset", str(sequence))
            await live.publish(99)
            assert (await reader.event()).number == 99


async def test_who_missed_just_as_much_as_is_allowed_gets_it(run_live):
    async with run_live(stream_resume_events_max=10) as live:
        for number in range(10):
            await live.publish(number)
        async with live.open("0") as reader:
            assert await reader.numbers(10) == list(range(10))


async def test_too_many_events_in_few_batches_are_too_many_all_the_same(run_live):
    async with run_live(stream_resume_events_max=10) as live:
        await live.caught_up(await live.publish(*range(11)))
        async with live.open("0") as reader:
            assert (await reader.event()).event == "stream.reset"


async def test_what_the_stream_no_longer_keeps_leads_to_a_fresh_start(live):
    first = await live.publish(1)
    for number in range(2, 6):
        sequence = await live.publish(number)
    await live.bus.js.purge_stream(streams.EVENTS, seq=sequence)
    await live.caught_up(sequence)
    async with live.open(f"{first}-0") as reader:
        assert (await reader.event()).event == "stream.reset"
    async with live.open(str(sequence - 1)) as reader:
        assert (await reader.event()).number == 5


async def test_an_id_of_another_installation_leads_to_a_fresh_start(live):
    await live.publish(1)
    async with live.open("123456789-0") as reader:
        assert (await reader.event()).event == "stream.reset"
        await live.publish(2)
        assert (await reader.event()).number == 2


async def test_another_process_goes_on_where_the_first_one_was(run_live):
    async with run_live() as first, run_live() as second:
        second.tenant_id, second.user = first.tenant_id, first.user
        async with first.reading() as reader:
            await first.publish(1)
            await reader.event()
            last_id = reader.last_id
        await first.publish(2)
        async with second.open(last_id) as reader:
            assert (await reader.event()).number == 2


async def test_the_hub_goes_on_without_gap_when_its_consumer_is_lost(live):
    async with live.reading() as reader:
        await live.publish(1)
        assert (await reader.event()).number == 1
        for consumer in await live.bus.js.consumers_info(streams.EVENTS):
            await live.bus.js.delete_consumer(streams.EVENTS, consumer.name)
        for number in range(2, 30):
            await live.publish(number)
        assert await reader.numbers(28) == list(range(2, 30))


async def test_the_hub_goes_on_without_gap_when_its_connection_breaks(live, nats):
    other = await Bus.connect(nats, name="other")
    bus, live.bus = live.bus, other
    async with live.reading() as reader:
        await live.publish(1)
        assert (await reader.event()).number == 1
        bus.client._transport.close()
        for number in range(2, 30):
            await live.publish(number)
        assert await reader.numbers(28) == list(range(2, 30))
    live.bus = bus
    await other.close()


async def test_a_stream_that_was_made_anew_sends_its_readers_to_a_fresh_start(live):
    async with live.reading() as reader:
        for number in range(5):
            await live.publish(number)
        await reader.numbers(5)
        await live.bus.js.delete_stream(streams.EVENTS)
        await live.bus.ensure(streams.events())
        assert (await reader.event()).data["code"] == "EVENTS_LOST"
        last_id = reader.last_id
    async with live.open(last_id) as reader:
        assert (await reader.event()).event == "stream.reset"
        await live.publish(7)
        assert (await reader.event()).number == 7
