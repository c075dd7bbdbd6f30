"""Leases: one holder each, shared evenly, free the moment their holder dies."""

import asyncio
import collections

import asyncpg
import pytest

from kit.leases import LeaseLost, LeasePool


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
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(self.pool.run(self.work, self.stop))

    async def work(self, lease: int, stop: asyncio.Event) -> None:
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


async def test_a_lost_connection_stops_the_work_and_is_reported(database, postgres):
    holders = collections.Counter()
    member = Member(database.app_url, 2, holders)
    await until(lambda: len(member.pool.held) == 2)
    connection = await asyncpg.connect(database.superuser_url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'lease test' AND datname = current_database()"
    )
    await connection.close()
    with pytest.raises(LeaseLost):
        await member.task
    assert not any(holders.values())


async def test_a_failing_worker_ends_the_pool_with_its_error(database):
    async def fail(lease: int, stop: asyncio.Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await LeasePool(database.app_url, "test", 1).run(fail, asyncio.Event())
