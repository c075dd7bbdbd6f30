"""Leases: one holder each, shared evenly, free the moment their holder dies."""

import asyncio
import collections
import time

import asyncpg
import nats.errors
import pytest

from kit import leases
from kit.leases import LeasePool


@pytest.fixture
def database(postgres):
    fresh = postgres.empty_database("kit")
    yield fresh
    fresh.drop()


class Member:
    """A process's part in a pool, and which leases it works on."""

    def __init__(self, url: str, count: int, holders: collections.Counter) -> None:
        self.pool = LeasePool(url, "test", count)
        self.holders = holders
        self.begun = 0
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(self.pool.run(self.work, self.stop))

    async def work(self, lease: int, stop: asyncio.Event) -> None:
        self.begun += 1
        self.holders[lease] += 1
        assert self.holders[lease] == 1, "two hold one lease"
        await stop.wait()
        self.holders[lease] -= 1

    async def end(self) -> None:
        self.stop.set()
        await self.task


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


async def test_one_member_holds_all_leases_and_two_share_them(database):
    holders = collections.Counter()
    first = Member(database.app_url, 5, holders)
    await until(lambda: len(first.pool.held) == 5)
    second = Member(database.app_url, 5, holders)
    await until(lambda: {len(first.pool.held), len(second.pool.held)} == {2, 3})
    await first.end()
    await until(lambda: len(second.pool.held) == 5)
    await second.end()
    assert not any(holders.values())


async def cut_leases(database) -> None:
    """End the connections that hold leases, as a server that dies does."""
    connection = await asyncpg.connect(database.superuser_url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'lease test' AND datname = current_database()"
    )
    await connection.close()


async def test_a_lost_connection_stops_the_work_and_another_member_takes_over(database):
    holders = collections.Counter()
    first = Member(database.app_url, 2, holders)
    await until(lambda: len(first.pool.held) == 2)
    second = Member(database.app_url, 2, holders)
    await until(lambda: len(first.pool.held) == len(second.pool.held) == 1)
    for _ in range(3):
        began = first.begun + second.begun
        await cut_leases(database)
        await until(lambda began=began: first.begun + second.begun >= began + 2)
        await until(lambda: len(first.pool.held) == len(second.pool.held) == 1)
    await first.end()
    await second.end()
    assert not any(holders.values())


async def test_work_that_fails_for_an_outage_begins_anew(database):
    failures = iter(
        [ConnectionRefusedError(), nats.errors.NoRespondersError(), ExceptionGroup("", [asyncpg.InterfaceError("")])]
    )
    working = asyncio.Event()

    async def work(lease: int, stop: asyncio.Event) -> None:
        if failure := next(failures, None):
            raise failure
        working.set()
        await stop.wait()

    stop = asyncio.Event()
    running = asyncio.create_task(LeasePool(database.app_url, "test", 1).run(work, stop))
    await asyncio.wait_for(working.wait(), 30)
    stop.set()
    await running


async def test_work_that_still_ends_can_see_that_its_lease_was_lost(database):
    pool, stop, seen = LeasePool(database.app_url, "test", 1), asyncio.Event(), []

    async def work(lease: int, told: asyncio.Event) -> None:
        assert not pool.is_lost
        seen.append("begun")
        await told.wait()
        seen.append(pool.is_lost)

    running = asyncio.create_task(pool.run(work, stop))
    await until(lambda: seen == ["begun"])
    other = await asyncpg.connect(database.app_url)
    await other.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'lease test' AND datname = current_database()"
    )
    await other.close()
    await until(lambda: seen == ["begun", True, "begun"])
    stop.set()
    await running
    assert seen == ["begun", True, "begun", False]


async def test_a_lease_whose_server_does_not_answer_any_more_counts_as_lost_before_the_connection_ends(
    database, monkeypatch
):
    pool, stop, seen, locked = LeasePool(database.app_url, "test", 1), asyncio.Event(), [], leases._locked

    async def last_word(connection, classes):
        monkeypatch.setattr(leases, "_locked", locked)
        raise asyncpg.InternalClientError("the connection is being closed")

    async def work(lease: int, told: asyncio.Event) -> None:
        seen.append("begun")
        await told.wait()
        seen.append(pool.is_lost)

    running = asyncio.create_task(pool.run(work, stop))
    await until(lambda: seen == ["begun"])
    monkeypatch.setattr(leases, "_locked", last_word)
    await until(lambda: seen == ["begun", True, "begun"])
    stop.set()
    await running


async def test_a_failing_worker_ends_the_pool_with_its_error(database):
    async def fail(lease: int, stop: asyncio.Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await LeasePool(database.app_url, "test", 1).run(fail, asyncio.Event())


async def test_while_work_still_ends_nothing_says_that_its_lost_lease_is_held(database):
    pool, stop, seen = LeasePool(database.app_url, "test", 1), asyncio.Event(), []

    async def work(lease: int, told: asyncio.Event) -> None:
        began = time.monotonic()
        await until(lambda: pool.held_at > began)
        seen.append("held")
        await told.wait()
        if pool.is_lost:
            lost_at = time.monotonic()
            await asyncio.sleep(1.2)  # longer than two of its looks
            seen.append(pool.held_at < lost_at)

    running = asyncio.create_task(pool.run(work, stop))
    await until(lambda: seen == ["held"])
    await cut_leases(database)
    await until(lambda: seen == ["held", True, "held"])
    stop.set()
    await running
