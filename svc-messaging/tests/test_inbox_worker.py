"""The inbox at work on its partition: envelopes in order, acknowledged after the commit, through outages and poison."""

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager

import pytest
from messaging_rpc import until
from nats.js.errors import NotFoundError
from prometheus_client import REGISTRY
from webhook_bodies import WORKER, Customer, Line

from kit import envelopes, streams
from kit.bus import Bus, Puller
from kit.db import Database
from kit.envelopes import Entry
from kit.partitions import name_of
from svc_messaging.inbox.numbers import TenantsUnavailable
from svc_messaging.inbox.second_chance import SecondChance
from svc_messaging.inbox.worker import PartitionWorker

SECONDS = 30
KEPT_SECONDS = 4.0
"""Longer than a machine may pause between making a consumer and asking it."""


class Known:
    """svc-tenants as the inbox sees it."""

    def __init__(self, *lines: Line) -> None:
        self.lines = {line.number: line.owner for line in lines}
        self.away = 0

    async def owners(self, numbers):
        if self.away:
            self.away -= 1
            raise TenantsUnavailable("away")
        return {number: self.lines[number] for number in numbers if number in self.lines}


@pytest.fixture
async def bus(nats):
    bus = await Bus.connect(nats, name="test inbox")
    await bus.ensure(streams.meta(), streams.events(), streams.dead())
    yield bus
    await bus.close()


async def publish(bus, *bodies, traceparent="", partition="0"):
    entries = [Entry(body, time.time_ns() // 1_000_000, traceparent) for body in bodies]
    await bus.publish(f"meta.{partition}", envelopes.encode(entries))


@asynccontextmanager
async def working(db, bus, numbers, *, partition="0"):
    stop = asyncio.Event()
    task = asyncio.create_task(PartitionWorker(partition, db=db, worker=WORKER, bus=bus, numbers=numbers).run(stop))
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait_for(task, SECONDS)


async def bodies_of(sql, line, count):
    async with asyncio.timeout(SECONDS):
        while True:
            rows = await sql.fetch("SELECT body FROM messages WHERE tenant_id = $1 ORDER BY id", line.tenant_id)
            if len(rows) >= count:
                return [row["body"] for row in rows]
            await asyncio.sleep(0.02)


async def acknowledged(bus, partition="0"):
    async with asyncio.timeout(SECONDS):
        while True:
            with contextlib.suppress(NotFoundError):  # before the worker has begun to read
                info = await bus.js.consumer_info(streams.META, f"inbox-{partition}")
                if not info.num_ack_pending and not info.num_pending:
                    return
            await asyncio.sleep(0.02)


async def in_hand(bus):
    """How many envelopes were handed out and are not acknowledged; None before the worker has begun to read."""
    with contextlib.suppress(NotFoundError):
        return (await bus.js.consumer_info(streams.META, "inbox-0")).num_ack_pending


async def nobody_asks(bus):
    """Whether the server knows that whoever asked for envelopes is gone. Until then it may hand him more of them."""
    return not (await bus.js.consumer_info(streams.META, "inbox-0")).num_waiting


def texts(line, customer, *words):
    return [line.written(customer, customer.writes(content={"body": word})) for word in words]


async def test_envelopes_are_stored_in_order_and_then_acknowledged(worker_db, sql, bus):
    line, ana = Line(), Customer()
    words = [str(number) for number in range(30)]
    bodies = texts(line, ana, *words)
    for start in range(0, 30, 3):
        await publish(bus, *bodies[start : start + 3])
    async with working(worker_db, bus, Known(line)):
        assert await bodies_of(sql, line, 30) == words
        await acknowledged(bus)


async def lose(bus, count):
    """Have envelopes handed out to somebody who dies with them."""
    somebody = await bus.puller(streams.META, "inbox-0", "meta.0", limit=count)
    async with asyncio.timeout(SECONDS):
        while count:  # a batch has what has arrived, which may be less
            count -= len(await somebody.batch(count, seconds=SECONDS))
    await somebody._subscription.unsubscribe()


async def test_what_a_dead_worker_had_in_hand_is_stored_first_and_acknowledged(worker_db, sql, bus):
    line, ana = Line(), Customer()
    words = [str(number) for number in range(8)]
    bodies = texts(line, ana, *words)
    for body in bodies[:5]:
        await publish(bus, body)
    await lose(bus, 5)
    for body in bodies[5:]:
        await publish(bus, body)
    async with working(worker_db, bus, Known(line)):
        assert await bodies_of(sql, line, 8) == words
        await acknowledged(bus)
    info = await bus.js.consumer_info(streams.META, "inbox-0")
    assert info.delivered.consumer_seq == 8, "it was left to come again"


async def test_what_a_broken_connection_swallowed_is_stored_before_what_comes_after(worker_db, sql, bus, monkeypatch):
    line, ana = Line(), Customer()
    swallowed, after = texts(line, ana, "swallowed", "after")
    batch, calls = Puller.batch, []

    async def interrupted(puller, most, *, seconds):
        calls.append(most)
        if len(calls) == 1:
            await publish(bus, swallowed)
            await lose(bus, 1)
            bus.client.stats["reconnects"] += 1
            await publish(bus, after)
        return await batch(puller, most, seconds=seconds)

    monkeypatch.setattr(Puller, "batch", interrupted)
    async with working(worker_db, bus, Known(line)):
        assert await bodies_of(sql, line, 2) == ["swallowed", "after"]
        await acknowledged(bus)


async def test_nothing_is_acknowledged_while_svc_tenants_is_away(worker_db, sql, bus):
    line, numbers = Line(), Known()
    numbers.lines, numbers.away = {line.number: line.owner}, 3
    await publish(bus, *texts(line, Customer(), "still here"))
    async with working(worker_db, bus, numbers):
        assert await bodies_of(sql, line, 1) == ["still here"]
        await acknowledged(bus)
    assert numbers.away == 0


async def test_the_inbox_waits_for_the_database_and_loses_nothing(database, sql, bus):
    line = Line()
    db = await Database.connect(database.worker_url, name="test outage", connections=2)
    await publish(bus, *texts(line, Customer(), "one"))
    name = database.worker_url.rsplit("/", 1)[1].split("?")[0]
    await sql.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'test outage'"
    )
    await sql.execute(ended)
    try:
        async with working(db, bus, Known(line)):
            await until(lambda: in_hand(bus))
            await asyncio.sleep(0.5)
            assert await in_hand(bus) == 1
            await sql.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
            assert await bodies_of(sql, line, 1) == ["one"]
            await acknowledged(bus)
    finally:
        await sql.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
        await db.close()


async def test_poison_is_parked_alone(worker_db, sql, bus):
    line, ana = Line(), Customer()
    # A number that JSON allows and no PostgreSQL number holds.
    bodies = texts(line, ana, "before", "POISON", "after")
    poison = bodies[1].replace(b'"type": "text"', b'"type": "odd", "odd": {"n": 1e999}')
    await publish(bus, bodies[0], poison, bodies[2])
    async with working(worker_db, bus, Known(line)):
        assert await bodies_of(sql, line, 2) == ["before", "after"]
        await acknowledged(bus)
    parked = await sql.fetchrow("SELECT * FROM parked_events WHERE phone_number_id = $1", line.number)
    assert parked["reason"] == "poison"
    assert "POISON" in parked["body"]


async def test_a_message_that_is_no_envelope_is_buried_with_the_reason(worker_db, sql, bus):
    line = Line()
    await bus.publish("meta.0", b"no envelope")
    await publish(bus, *texts(line, Customer(), "after it"))
    async with working(worker_db, bus, Known(line)):
        assert await bodies_of(sql, line, 1) == ["after it"]
        await acknowledged(bus)
    dead = await bus.js.get_last_msg(streams.DEAD, "dead.META.inbox")
    assert (dead.headers or {})["Aerostic-Reason"] == "malformed"


async def test_what_a_dead_process_had_in_hand_is_not_overtaken(worker_db, sql, bus, nats):
    line, ana = Line(), Customer()
    first, second = texts(line, ana, "first", "second")
    await publish(bus, first)
    dead = await Bus.connect(nats, name="dead inbox")
    puller = await dead.puller(streams.META, "inbox-0", "meta.0", limit=10)
    assert len(await puller.batch(10, seconds=SECONDS)) == 1
    await dead.client.close()
    await until(lambda: nobody_asks(bus))
    await publish(bus, second)
    async with working(worker_db, bus, Known(line)):
        assert await bodies_of(sql, line, 2) == ["first", "second"]


async def test_a_replay_of_the_journal_changes_nothing(worker_db, sql, bus):
    line = Line()
    bodies = texts(line, Customer(), "a", "b", "c")
    await publish(bus, *bodies)
    async with working(worker_db, bus, Known(line)):
        await bodies_of(sql, line, 3)
        await acknowledged(bus)
    await bus.js.delete_consumer(streams.META, "inbox-0")
    async with working(worker_db, bus, Known(line)):
        await publish(bus, *texts(line, Customer(), "d"))
        assert await bodies_of(sql, line, 4) == ["a", "b", "c", "d"]


async def test_what_came_before_its_number_was_connected_is_taken_in_afterwards(worker_db, sql, bus):
    line, numbers = Line(), Known()
    await publish(bus, *texts(line, Customer(), "early", "bird"))
    async with working(worker_db, bus, numbers):
        await acknowledged_after_start(bus)
    numbers.lines[line.number] = line.owner
    assert await SecondChance(worker_db, WORKER, numbers).look() == 2
    assert await bodies_of(sql, line, 2) == ["early", "bird"]
    states = await sql.fetch("SELECT state FROM parked_events WHERE phone_number_id = $1", line.number)
    assert [row["state"] for row in states] == ["settled", "settled"]
    assert await SecondChance(worker_db, WORKER, numbers).look() == 0


async def acknowledged_after_start(bus):
    """The consumer appears with the worker."""
    async with asyncio.timeout(SECONDS):
        while not (await bus.js.consumers_info(streams.META)):  # noqa: ASYNC110 (the server tells nobody)
            await asyncio.sleep(0.02)
    await acknowledged(bus)


def told_pending(partition):
    return REGISTRY.get_sample_value("aerostic_inbox_pending", {"partition": partition})


async def test_a_tenants_own_partition_is_read_by_its_name_and_apart_from_the_shared_ones(worker_db, sql, bus):
    line, other = Line(), Line()
    name = name_of(0, str(line.tenant_id))
    await publish(bus, *texts(line, Customer(), "apart"), partition=name)
    await publish(bus, *texts(other, Customer(), "shared"))
    async with working(worker_db, bus, Known(line, other), partition=name):
        assert await bodies_of(sql, line, 1) == ["apart"]
        await acknowledged(bus, name)
        assert told_pending(name) == 0
        assert [each.name for each in await bus.js.consumers_info(streams.META)] == [f"inbox-{name}"]
    assert told_pending(name) is None, "a partition that this process lost is not named any more"
    async with working(worker_db, bus, Known(line, other)):
        assert await bodies_of(sql, other, 1) == ["shared"]
        await acknowledged(bus)


async def test_the_consumer_of_a_tenant_that_is_gone_goes_when_nobody_has_asked_it_for_long(worker_db, sql, bus):
    line = Line()
    name = name_of(0, str(line.tenant_id))
    stop = asyncio.Event()
    worker = PartitionWorker(name, db=worker_db, worker=WORKER, bus=bus, numbers=Known(line), kept_seconds=KEPT_SECONDS)
    task = asyncio.create_task(worker.run(stop))
    await publish(bus, *texts(line, Customer(), "last"), partition=name)
    await bodies_of(sql, line, 1)
    await asyncio.sleep(KEPT_SECONDS + 1)
    assert await bus.js.consumers_info(streams.META), "it was asked all the time"
    stop.set()
    await asyncio.wait_for(task, SECONDS)
    async with asyncio.timeout(SECONDS):
        while await bus.js.consumers_info(streams.META):  # noqa: ASYNC110 (the server tells nobody)
            await asyncio.sleep(0.1)
