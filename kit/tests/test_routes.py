"""Routes: the last word counts, what is no table is ignored, and what nobody confirms is forgotten."""

import asyncio

import pytest

from kit import routes, streams
from kit.bus import Bus
from kit.routes import Routes, RoutesMalformed

TENANT, OTHER = "0198c0de-0000-7000-8000-000000000001", "0198c0de-0000-7000-8000-000000000002"


@pytest.fixture
async def bus(nats):
    bus = await Bus.connect(nats, name="test")
    yield bus
    await bus.close()


@pytest.fixture
async def known(bus, monkeypatch):
    """Routes that are being read."""
    monkeypatch.setattr(routes, "_LOOK_SECONDS", 0.05)
    stop, known = asyncio.Event(), Routes()
    following = asyncio.create_task(known.follow(bus, stop))
    yield known
    stop.set()
    await following


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (routes tell no one)
            await asyncio.sleep(0.02)


def test_a_table_comes_back_as_it_was():
    numbers = {"2": TENANT, "1": OTHER}
    assert routes.decode(routes.encode(numbers)) == numbers
    assert routes.decode(routes.encode({})) == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"numbers": []}',
        b'{"numbers": {"1": 7}}',
        b'{"numbers": {"1": null}}',
        b'{"numbers": {"1": "everybody"}}',
        b'{"numbers": {"1": "*"}}',
        routes.encode({"1": TENANT, "2": TENANT.upper()}),
        routes.encode({"": TENANT}),
        b"[" * 100_000,
    ],
)
def test_what_is_no_table_is_refused(data):
    with pytest.raises(RoutesMalformed):
        routes.decode(data)


async def test_the_last_word_counts_from_whenever_the_stream_is_there(bus, known):
    await asyncio.sleep(0.2)  # some looks find no stream
    assert known.numbers == {}
    await bus.ensure(streams.routes())
    await routes.publish(bus, {"1": TENANT})
    await until(lambda: known.numbers == {"1": TENANT})
    await routes.publish(bus, {"1": OTHER, "2": TENANT})
    await until(lambda: known.numbers == {"1": OTHER, "2": TENANT})
    await routes.publish(bus, {})
    await until(lambda: known.numbers == {})
    assert (await bus.js.stream_info(streams.ROUTES)).state.messages == 1


async def test_a_stream_that_was_made_anew_is_read_from_its_beginning(bus, known):
    await bus.ensure(streams.routes())
    for _ in range(3):
        await routes.publish(bus, {"1": TENANT})
    await until(lambda: known.numbers)
    await bus.js.delete_stream(streams.ROUTES)
    await bus.ensure(streams.routes())
    await routes.publish(bus, {"1": OTHER})
    await until(lambda: known.numbers == {"1": OTHER})


async def test_malformed_routes_change_nothing_and_confirm_nothing(bus, known, monkeypatch):
    await bus.ensure(streams.routes())
    await routes.publish(bus, {"1": TENANT})
    await until(lambda: known.numbers)
    await bus.publish(streams.ROUTES_META, b'{"numbers": {"1": "everybody"}}')
    await until(lambda: known._seen == 2)
    assert known.numbers == {"1": TENANT}
    monkeypatch.setattr(routes, "STALE_SECONDS", 0.5)
    await until(lambda: known.numbers == {})


async def test_routes_that_are_confirmed_stay_and_others_are_forgotten(bus, known, monkeypatch):
    await bus.ensure(streams.routes())
    monkeypatch.setattr(routes, "STALE_SECONDS", 5.0)
    await routes.publish(bus, {"1": TENANT})
    await until(lambda: known.numbers)
    for _ in range(4):
        monkeypatch.setattr(known, "_confirmed_at", known._confirmed_at - 4.0)
        await routes.publish(bus, {"1": TENANT})
        sequence = (await bus.js.stream_info(streams.ROUTES)).state.last_seq
        await until(lambda sequence=sequence: known._seen == sequence)
        assert known.numbers
    monkeypatch.setattr(known, "_confirmed_at", known._confirmed_at - 10.0)
    await until(lambda: known.numbers == {})
    # The same old word read again is no confirmation; a new one is.
    await asyncio.sleep(0.2)
    assert known.numbers == {}
    await routes.publish(bus, {"1": TENANT})
    await until(lambda: known.numbers == {"1": TENANT})


async def test_while_nats_is_away_routes_are_kept_until_they_are_stale(bus, known, monkeypatch):
    await bus.ensure(streams.routes())
    await routes.publish(bus, {"1": TENANT})
    await until(lambda: known.numbers)

    async def away(*_arguments):
        raise ConnectionError

    monkeypatch.setattr(bus.js, "get_last_msg", away)
    await asyncio.sleep(0.2)
    assert known.numbers
    monkeypatch.setattr(known, "_confirmed_at", known._confirmed_at - routes.STALE_SECONDS)
    await until(lambda: known.numbers == {})
