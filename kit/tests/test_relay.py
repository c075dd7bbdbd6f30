"""The outbox and its relay: a change and its message leave together, once, in order."""

import asyncio
import contextlib

import pytest

from kit import events, outbox, streams
from kit.bus import Bus
from kit.db import Database
from kit.events import Event
from kit.ids import new_id
from kit.migrations.tables import create_outbox
from kit.outbox import Relay
from kit.outgoing import Outgoing
from kit.principal import Principal


@pytest.fixture
async def database(postgres):
    fresh = postgres.empty_database("kit")
    for statement in create_outbox(writers=["kit_app"], relay_role="kit_worker"):
        postgres.server.run(statement, database=fresh.name)
    yield fresh
    fresh.drop()


@pytest.fixture
async def db(database):
    db = await Database.connect(database.app_url, name="test")
    yield db
    await db.close()


@pytest.fixture
async def bus(nats):
    bus = await Bus.connect(nats, name="test")
    await bus.ensure(streams.events())
    yield bus
    await bus.close()


@contextlib.asynccontextmanager
async def running_relay(database, bus, **options):
    stop = asyncio.Event()
    task = asyncio.create_task(Relay(worker_url(database), bus, **options).run(stop))
    yield
    stop.set()
    await task


def worker_url(database) -> str:
    return database.worker_url


async def stored(bus: Bus, count: int) -> list:
    async with asyncio.timeout(60):
        while True:
            if (await bus.js.stream_info(streams.EVENTS)).state.messages >= count:
                break
            await asyncio.sleep(0.02)
    return [await bus.js.get_msg(streams.EVENTS, seq) for seq in range(1, count + 1)]


async def test_what_a_committed_transaction_added_is_published_in_order(database, db, bus):
    tenant = new_id()
    async with running_relay(database, bus):
        for number in range(20):
            async with db.begin(Principal.service("test")) as tx:
                event = Event("test.thing.made", tenant, f"things/{number}", {"number": number})
                await outbox.add(tx, events.outgoing([event]))
        messages = await stored(bus, 20)
    numbers = [events.decode(message.headers, message.data)[0].data["number"] for message in messages]
    assert numbers == list(range(20))


async def add_and_fail(db: Database, lost: Outgoing) -> None:
    async with db.begin(Principal.service("test")) as tx:
        await outbox.add(tx, [lost])
        raise ZeroDivisionError


async def test_what_a_rolled_back_transaction_added_is_not_published(database, db, bus):
    async with running_relay(database, bus):
        with pytest.raises(ZeroDivisionError):
            await add_and_fail(db, Outgoing("events.a.b.c.lost", b"{}"))
        async with db.begin(Principal.service("test")) as tx:
            await outbox.add(tx, [Outgoing("events.a.b.c.kept", b"{}")])
        messages = await stored(bus, 1)
    assert [message.subject for message in messages] == ["events.a.b.c.kept"]


async def test_a_row_published_before_a_crash_is_stored_once(database, db, bus):
    lost = Outgoing("events.a.b.c.d", b"{}")
    await bus.publish(lost.subject, lost.data, key=str(lost.id))  # published, but the row was not deleted yet
    async with db.begin(Principal.service("test")) as tx:
        await outbox.add(tx, [lost, Outgoing("events.a.b.c.e", b"{}")])
    async with running_relay(database, bus):
        messages = await stored(bus, 2)
    assert [message.subject[-1] for message in messages] == ["d", "e"]


async def test_a_second_relay_takes_over_when_the_first_ends(database, db, bus):
    async with running_relay(database, bus), running_relay(database, bus):
        async with db.begin(Principal.service("test")) as tx:
            await outbox.add(tx, [Outgoing("events.a.b.c.d", b"{}")])
        await stored(bus, 1)
    async with running_relay(database, bus):
        async with db.begin(Principal.service("test")) as tx:
            await outbox.add(tx, [Outgoing("events.a.b.c.e", b"{}")])
        await stored(bus, 2)


def made(count: int) -> list[Outgoing]:
    return [Outgoing(f"events.test.thing.made.{number % 3}", b"%d" % number) for number in range(count)]


async def added(db: Database, messages: list[Outgoing]) -> None:
    async with db.begin(Principal.service("test")) as tx:
        await outbox.add(tx, messages)


async def test_many_rows_of_several_tenants_leave_in_order(database, db, bus):
    await added(db, made(700))
    async with running_relay(database, bus):
        messages = await stored(bus, 700)
        await emptied(database)
    assert [int(message.data) for message in messages] == list(range(700))


async def test_rows_of_which_one_is_published_already_are_stored_once(database, db, bus):
    """As after a crash between the publish and the deletion."""
    messages = made(10)
    await bus.publish(messages[4].subject, messages[4].data, key=str(messages[4].id))
    await added(db, messages)
    async with running_relay(database, bus):
        await emptied(database)
    state = (await bus.js.stream_info(streams.EVENTS)).state
    assert state.messages == 10
    found = [int((await bus.js.get_msg(streams.EVENTS, seq)).data) for seq in range(1, 11)]
    assert found == [4, 0, 1, 2, 3, 5, 6, 7, 8, 9]


async def test_a_stream_that_takes_no_batches_gets_its_messages_one_by_one(database, db, bus):
    config = streams.events()
    config.allow_atomic = False
    await bus.js.update_stream(config)
    await added(db, made(10))
    async with running_relay(database, bus):
        await emptied(database)
    assert (await bus.js.stream_info(streams.EVENTS)).state.messages == 10


JOINS = {"events": b",".join}


async def test_what_waits_for_one_subject_leaves_as_one_message_where_the_stream_joins(database, db, bus):
    here, there = "events.a.b.c.here", "events.a.b.c.there"
    await added(db, [Outgoing(here, b"1"), Outgoing(there, b"2"), Outgoing(here, b"3")])
    await added(db, [Outgoing(here, b"4")])
    async with running_relay(database, bus, joins=JOINS):
        messages = await stored(bus, 2)
        await emptied(database)
    assert [(message.subject, message.data) for message in messages] == [(here, b"1,3,4"), (there, b"2")]


@pytest.mark.parametrize("published", [0, 1])
async def test_joining_loses_nothing_after_a_crash_between_publish_and_deletion(database, db, bus, published):
    """What was published before is repeated, with all that came since."""
    parts = [Outgoing("events.a.b.c.d", b"1"), Outgoing("events.a.b.c.d", b"2")]
    await bus.publish(parts[published].subject, parts[published].data, key=str(parts[published].id))
    await added(db, parts)
    async with running_relay(database, bus, joins=JOINS):
        _, joined = await stored(bus, 2)
        await emptied(database)
    assert joined.data == b"1,2"


async def test_a_joined_message_that_was_published_before_a_crash_is_stored_once(database, db, bus):
    parts = [Outgoing("events.a.b.c.d", b"1"), Outgoing("events.a.b.c.d", b"2")]
    async with running_relay(database, bus, joins=JOINS):
        await added(db, parts)
        await emptied(database)
        await added(db, parts)
        await emptied(database)
    assert (await bus.js.stream_info(streams.EVENTS)).state.messages == 1


async def test_rows_with_headers_of_their_own_stay_by_themselves(database, db, bus):
    await added(db, [Outgoing("events.a.b.c.d", b"%d" % trace, {"traceparent": str(trace)}) for trace in range(3)])
    async with running_relay(database, bus, joins=JOINS):
        messages = await stored(bus, 3)
    assert [message.headers["traceparent"] for message in messages] == ["0", "1", "2"]


async def test_a_joined_message_stays_small(database, db, bus):
    await added(db, [Outgoing("events.a.b.c.d", b"x" * 7000) for _ in range(5)])
    async with running_relay(database, bus, joins=JOINS):
        messages = await stored(bus, 3)
        await emptied(database)
    assert [len(message.data) for message in messages] == [14_001, 14_001, 7000]


async def emptied(database) -> None:
    relay_role = await Database.connect(worker_url(database), name="test")
    async with asyncio.timeout(60):
        while await relay_role.fetchval("SELECT EXISTS (SELECT FROM outbox)"):  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.02)
    await relay_role.close()
