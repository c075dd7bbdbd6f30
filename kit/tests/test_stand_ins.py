"""Standing in: leases of pools without members are worked on by others, who give way as soon as a member appears."""

import asyncio
import collections

import asyncpg
import pytest

from kit.leases import LeasePool, StandIns

COUNT = 2


@pytest.fixture
def database(postgres):
    fresh = postgres.empty_database("kit")
    yield fresh
    fresh.drop()


class Holders:
    """How many work on a lease at this moment: never two, but for those who were cut off and still end."""

    def __init__(self) -> None:
        self._working = [collections.Counter[tuple[str, int]]()]

    async def work(self, lease: tuple[str, int], told: asyncio.Event) -> None:
        working = self._working[-1]
        working[lease] += 1
        assert working[lease] == 1, "two hold one lease"
        await told.wait()
        await asyncio.sleep(0.01)  # ending takes time, too
        working[lease] -= 1

    def cut_off(self) -> None:
        """The server lets others have their leases a moment before those who work now hear of it."""
        self._working.append(collections.Counter())

    def of(self, scope: str) -> int:
        return sum(count for (each, _), count in self._working[-1].items() if each == scope)

    @property
    def are_idle(self) -> bool:
        return not any(count for working in self._working for count in working.values())


class Process:
    """A process that holds leases, until it ends."""

    def __init__(self, pool: LeasePool | StandIns, work) -> None:
        self.pool = pool
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(pool.run(work, self.stop))

    async def end(self) -> None:
        self.stop.set()
        await self.task


def stand_in(database, holders: Holders, scopes: set[str]) -> Process:
    return Process(
        StandIns(database.app_url, "test", COUNT, lambda: scopes),
        lambda scope, lease, told: holders.work((scope, lease), told),
    )


def member(database, holders: Holders, scope: str) -> Process:
    return Process(
        LeasePool(database.app_url, f"test {scope}", COUNT), lambda lease, told: holders.work((scope, lease), told)
    )


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


async def cut(database, holders: Holders, name: str) -> None:
    """End the connections that hold leases now, as a server that dies does."""
    connection = await asyncpg.connect(database.superuser_url)
    holders.cut_off()
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = $1 AND datname = current_database()",
        f"lease {name}",
    )
    await connection.close()


async def test_who_stands_in_gives_way_to_a_member_and_comes_back_when_it_has_gone(database):
    holders = Holders()
    standing = stand_in(database, holders, {"a", "b"})
    await until(lambda: standing.pool.held == [("a", 0), ("a", 1), ("b", 0), ("b", 1)])
    own = member(database, holders, "a")
    await until(lambda: own.pool.held == [0, 1])
    await until(lambda: standing.pool.held == [("b", 0), ("b", 1)])
    await own.end()
    await until(lambda: len(standing.pool.held) == 4)
    await standing.end()
    assert holders.are_idle


async def test_nobody_stands_in_where_a_member_lives(database):
    holders = Holders()
    own = member(database, holders, "a")
    await until(lambda: own.pool.held == [0, 1])
    standing = stand_in(database, holders, {"a", "b"})
    await until(lambda: holders.of("b") == COUNT)
    assert own.pool.held == [0, 1]
    assert {scope for scope, _ in standing.pool.held} == {"b"}
    await own.end()
    await standing.end()


async def test_a_member_that_loses_its_connection_is_stood_in_for_by_one_process_at_a_time(database):
    holders = Holders()
    own = member(database, holders, "a")
    await until(lambda: own.pool.held == [0, 1])
    standing = stand_in(database, holders, {"a"})
    for _ in range(3):
        await cut(database, holders, "test a")
        await until(lambda: holders.of("a") == COUNT and len(own.pool.held) == COUNT)
    await own.end()
    await until(lambda: len(standing.pool.held) == COUNT)
    await standing.end()
    assert holders.are_idle


async def test_scopes_come_and_go(database):
    holders, scopes = Holders(), set()
    standing = stand_in(database, holders, scopes)
    scopes.add("a")
    await until(lambda: holders.of("a") == COUNT)
    scopes.add("b")
    scopes.remove("a")
    await until(lambda: holders.of("b") == COUNT and not holders.of("a"))
    await until(lambda: standing.pool.held == [("b", 0), ("b", 1)])
    # What was let go of is free for anybody.
    own = member(database, holders, "a")
    await until(lambda: holders.of("a") == COUNT)
    await standing.end()
    await own.end()


async def test_those_who_stand_in_share_evenly_and_take_over_from_each_other(database):
    holders, scopes = Holders(), {"a", "b", "c"}
    first = stand_in(database, holders, scopes)
    await until(lambda: len(first.pool.held) == 6)
    second = stand_in(database, holders, scopes)
    await until(lambda: len(first.pool.held) == len(second.pool.held) == 3)
    own = member(database, holders, "a")
    await until(lambda: len(own.pool.held) == len(first.pool.held) == len(second.pool.held) == 2)
    await first.end()
    await until(lambda: len(second.pool.held) == 4)
    await own.end()
    await until(lambda: len(second.pool.held) == 6)
    await second.end()
    assert holders.are_idle


async def test_one_connection_serves_all_scopes(database):
    holders, scopes = Holders(), {f"tenant {number}" for number in range(50)}
    standing = stand_in(database, holders, scopes)
    await until(lambda: len(standing.pool.held) == 50 * COUNT)
    connection = await asyncpg.connect(database.superuser_url)
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lease test' AND datname = current_database()"
    )
    assert await connection.fetchval(count) == 1
    await connection.close()
    await standing.end()


async def test_after_an_outage_of_the_database_all_is_worked_on_again(database):
    holders, scopes = Holders(), {"a", "b"}
    standing = [stand_in(database, holders, scopes) for _ in range(2)]
    await until(lambda: [len(each.pool.held) for each in standing] == [2, 2])
    for _ in range(3):
        before = {each.task for process in standing for each in process.pool._running.values()}
        await cut(database, holders, "test")
        await until(lambda before=before: all(task.done() for task in before))
        await until(lambda: [len(each.pool.held) for each in standing] == [2, 2])
    for process in standing:
        await process.end()
    assert holders.are_idle


async def test_work_that_takes_long_to_end_delays_no_other_scope(database):
    ends, scopes, held = asyncio.Event(), {"slow"}, set()

    async def work(scope: str, lease: int, told: asyncio.Event) -> None:
        held.add((scope, lease))
        await told.wait()
        if scope == "slow":
            await ends.wait()
        held.remove((scope, lease))

    process = Process(StandIns(database.app_url, "test", COUNT, lambda: scopes), work)
    await until(lambda: len(held) == COUNT)
    scopes.add("quick")
    scopes.remove("slow")
    await until(lambda: len(held) == 2 * COUNT)
    own = Process(LeasePool(database.app_url, "test slow", COUNT), lambda lease, told: told.wait())
    await asyncio.sleep(1)
    assert own.pool.held == [], "a lease was taken from work that had not ended"
    ends.set()
    await until(lambda: own.pool.held == [0, 1])
    await process.end()
    await own.end()
