"""The database as services see it: patient at start, honest when it is away, and never stuck with an old plan."""

import asyncio
import itertools
import json
import uuid

import asyncpg
import pytest

from kit import db
from kit.db import Database
from kit.errors import Overloaded, Unavailable
from kit.principal import Principal

CALLER = Principal.service("test")


@pytest.fixture
async def numbers(postgres):
    """A database with an analysed, empty table `numbers (id)`."""
    fresh = postgres.empty_database("kit")
    connection = await asyncpg.connect(fresh.owner_url)
    # Autovacuum would analyse it as soon as it has rows, and make the server plan anew.
    await connection.execute("CREATE TABLE numbers (id int PRIMARY KEY, other text) WITH (autovacuum_enabled = off)")
    await connection.execute("GRANT SELECT ON numbers TO kit_app")
    await connection.execute("ANALYZE numbers")
    yield fresh, connection
    await connection.close()
    fresh.drop()


async def plan(tx) -> str:
    """How the server runs the statement that this connection keeps."""
    return "\n".join(row[0] for row in await tx.fetch("EXPLAIN EXECUTE one (1)"))


async def test_a_plan_made_for_an_empty_table_does_not_outlive_a_slow_transaction(numbers, monkeypatch):
    fresh, owner = numbers
    database = await Database.connect(fresh.app_url, name="test", connections=1)
    try:
        with monkeypatch.context() as unhurried:
            unhurried.setattr(db, "_SLOW_SECONDS", 3600)  # this one is not slow, whatever the machine
            async with database.begin(CALLER) as tx:
                # Any statement is planned once for all after its fifth execution.
                await tx.execute("SET plan_cache_mode = force_generic_plan")
                await tx.execute("PREPARE one (int) AS SELECT other FROM numbers WHERE id = $1")
                assert "Seq Scan" in await plan(tx)
        await owner.execute("INSERT INTO numbers SELECT g, 'x' FROM generate_series(1, 50000) g")
        async with database.begin(CALLER) as tx:
            assert "Seq Scan" in await plan(tx), "the old plan is still kept"
            await tx.execute("SELECT pg_sleep(0.3)")
        async with database.begin(CALLER) as tx:
            assert "Seq Scan" not in await plan(tx)
    finally:
        await database.close()


async def test_a_server_that_is_starting_is_waited_for():
    answers = itertools.chain([ConnectionRefusedError(), asyncpg.CannotConnectNowError(""), TimeoutError()], [None])

    async def connect() -> str:
        if failure := next(answers):
            raise failure
        return "connected"

    assert await db.patiently(connect) == "connected"


async def test_a_server_that_stays_away_and_a_wrong_password_are_told():
    async def away() -> None:
        raise ConnectionRefusedError

    async def refused() -> None:
        raise asyncpg.InvalidPasswordError("")

    with pytest.raises(ConnectionRefusedError):
        await db.patiently(away, seconds=0.3)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await db.patiently(refused)


async def outlive_the_connection(database: Database, superuser_url: str) -> None:
    async with database.begin(CALLER) as tx:
        pid = await tx.fetchval("SELECT pg_backend_pid()")
        killer = await asyncpg.connect(superuser_url)
        await killer.execute("SELECT pg_terminate_backend($1)", pid)
        await killer.close()
        await asyncio.sleep(0.05)
        await tx.execute("SELECT 1")


async def test_a_connection_that_the_server_ends_in_a_transaction_is_an_outage_not_a_bug(numbers):
    fresh, _ = numbers
    database = await Database.connect(fresh.app_url, name="test", connections=1)
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011 (asyncpg has several words for it)
            await outlive_the_connection(database, fresh.superuser_url)
        assert isinstance(db.as_app_error(caught.value), Unavailable)
        assert isinstance(db.as_app_error(asyncpg.InternalClientError("cannot switch to state 12")), Unavailable)
        async with database.begin(CALLER) as tx:
            assert await tx.fetchval("SELECT 1") == 1
    finally:
        await database.close()


async def test_a_tenants_calls_leave_connections_to_the_others_and_take_turns(numbers, monkeypatch):
    monkeypatch.setattr(db, "_FREE_SECONDS", 60)  # the third call waits for as long as the test takes
    busy, other = (CALLER.on_behalf_of(uuid.uuid4()) for _ in range(2))
    database = await Database.connect(numbers[0].app_url, name="test", connections=4)
    begun: list[int] = []
    have_begun, may_end = asyncio.Event(), asyncio.Event()

    async def call(number: int) -> None:
        async with database.begin(busy):
            begun.append(number)
            if len(begun) == 2:
                have_begun.set()
            await may_end.wait()

    try:
        async with asyncio.timeout(60), asyncio.TaskGroup() as calls:
            for number in range(3):
                calls.create_task(call(number))
            await have_begun.wait()
            async with database.begin(other) as tx, database.begin(CALLER):
                assert await tx.fetchval("SELECT 1") == 1
            assert {*begun} == {0, 1}
            with monkeypatch.context() as patched:
                patched.setattr(db, "_FREE_SECONDS", 0.1)
                with pytest.raises(Overloaded) as caught:
                    await call(4)
            assert db.as_app_error(caught.value) is caught.value
            may_end.set()
        assert {*begun} == {0, 1, 2}
    finally:
        await database.close()


async def woken(fresh, work) -> list[str]:
    """Channels that heard of it while the work was done, and until one has heard of its end."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await asyncpg.connect(fresh.superuser_url)
    for channel in ("first", "second", "the_end"):
        await listener.add_listener(channel, lambda *told: heard.put_nowait(told[2]))
    database = await Database.connect(fresh.app_url, name="test", connections=2)
    found: list[str] = []
    try:
        await work(database)
        async with database.begin(CALLER) as tx:
            db.wake_after_commit(tx, "the_end")
        async with asyncio.timeout(30):
            while "the_end" not in found:
                found.append(await heard.get())
    finally:
        await database.close()
        await listener.close()
    return found


async def test_who_waits_for_a_change_is_woken_after_its_commit(numbers):
    async def change(database: Database) -> None:
        async with database.begin(CALLER) as tx:
            db.wake_after_commit(tx, "first")
            db.wake_after_commit(tx, "second")

    assert set(await woken(numbers[0], change)) == {"first", "second", "the_end"}


async def test_nobody_is_woken_for_a_change_that_was_taken_back(numbers):
    async def fail(database: Database) -> None:
        async with database.begin(CALLER) as tx:
            db.wake_after_commit(tx, "first")
            raise ZeroDivisionError

    async def change(database: Database) -> None:
        with pytest.raises(ZeroDivisionError):
            await fail(database)

    assert await woken(numbers[0], change) == ["the_end"]


async def test_a_wake_up_that_the_server_refuses_is_lost_and_nothing_else(numbers):
    database = await Database.connect(numbers[0].app_url, name="test", connections=1)
    async with database.begin(CALLER) as tx:
        db.wake_after_commit(tx, "select")
    await database.close()
    assert database._pool.is_closing()


async def test_connections_are_closed_whatever_became_of_a_wake_up(numbers, monkeypatch):
    async def fail(_database: Database) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Database, "_notify", fail)
    database = await Database.connect(numbers[0].app_url, name="test", connections=1)
    async with database.begin(CALLER) as tx:
        db.wake_after_commit(tx, "first")
    with pytest.raises(ZeroDivisionError):
        await database.close()
    assert database._pool.is_closing()


async def test_joins_run_as_they_are_written_also_before_anything_is_known_of_the_tables(numbers):
    """The planner believes that a tenant's part of such a table is a few rows, and would look at all of it for each."""
    fresh, owner = numbers
    await owner.execute(
        """
        CREATE TABLE people (tenant uuid, id uuid, name text, PRIMARY KEY (tenant, id)) WITH (autovacuum_enabled = off);
        CREATE TABLE names (tenant uuid, kind text, value text, person uuid, PRIMARY KEY (tenant, kind, value))
            WITH (autovacuum_enabled = off);
        CREATE INDEX names_by_person ON names (tenant, person);
        INSERT INTO people SELECT '00000000-0000-0000-0000-000000000001', gen_random_uuid(), 'Customer ' || n
        FROM generate_series(1, 1000) n;
        INSERT INTO names SELECT tenant, kind, name, id FROM people, (VALUES ('a'), ('b'), ('c')) AS k (kind);
        GRANT SELECT ON people, names TO kit_app
        """
    )
    find = """
        EXPLAIN (ANALYZE, TIMING off, SUMMARY off, FORMAT json)
        SELECT p.name FROM unnest($1::uuid[], $2::text[], $3::text[]) AS g (tenant, kind, value)
        JOIN names n USING (tenant, kind, value) JOIN people p ON p.tenant = n.tenant AND p.id = n.person
    """
    wanted = [uuid.UUID(int=1)] * 20, ["a"] * 20, [f"Customer {number}" for number in range(1, 21)]

    def rows_of(node) -> float:
        return node["Actual Rows"] * node["Actual Loops"] + sum(rows_of(each) for each in node.get("Plans", []))

    database = await Database.connect(fresh.app_url, name="test", connections=1)
    try:
        async with database.begin(CALLER) as tx:
            plan = json.loads(await tx.fetchval(find, *wanted))[0]["Plan"]
            assert plan["Actual Rows"] == 20
            assert rows_of(plan) < 20_000
            await tx.execute("SET LOCAL join_collapse_limit = 8")
            free = json.loads(await tx.fetchval(find, *wanted))[0]["Plan"]
            assert rows_of(free) > 20_000, "PostgreSQL knows better by now: the setting can go"
    finally:
        await database.close()
