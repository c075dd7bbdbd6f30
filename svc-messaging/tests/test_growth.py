"""What a large installation relies on: status changes that touch no index, and migrations beside the traffic."""

import asyncio
import os
import sys

import asyncpg
import pytest_asyncio
from messaging_factories import make_conversation, make_message, make_parked_event
from messaging_rpc import until
from webhook_bodies import WORKER, Line, new_wamid, status, take_in

from kit.db import Database
from svc_messaging.inbox.numbers import Owner
from svc_messaging.send_commands import Command
from svc_messaging.sender import claims, outcomes, recorder

STEPS = ("sent", "delivered", "read")


@pytest_asyncio.fixture
async def alone(postgres):
    """A database that nobody else writes to."""
    database = postgres.fresh_database("messaging")
    sql = await asyncpg.connect(database.superuser_url, server_settings={"timezone": "UTC"})
    db = await Database.connect(database.worker_url, name="test growth", connections=2)
    yield db, sql
    await db.close()
    await sql.close()
    database.drop()


async def updates(sql):
    """Updates of messages so far, and those of them that stayed within their page."""
    await sql.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
    row = await sql.fetchrow("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'messages'")
    return row["n_tup_upd"], row["n_tup_hot_upd"]


async def test_of_all_steps_of_a_message_only_its_acceptance_touches_an_index(alone, tenant_id):
    db, sql = alone
    conversation = await make_conversation(sql, tenant_id)
    line = Line(number=conversation["phone_number_id"], owner=Owner(tenant_id, conversation["whatsapp_account_id"]))
    # So few that all their versions fit into one page, whenever the server finds the time to prune it.
    rows = [await make_message(sql, tenant_id, conversation=conversation, direction="outbound") for _ in range(2)]
    async with db.begin(WORKER) as tx:
        commands = [Command(r["id"], tenant_id, line.number, r["contact_id"]) for r in rows]
        claimed = (await claims.claim(tx, [claims.Wanted(each) for each in commands], partitions=1)).rows
    wamids = [new_wamid() for _ in rows]

    async with db.begin(WORKER) as tx:
        accepted = [outcomes.Outcome("accepted", wamid=wamid) for wamid in wamids]
        await recorder.record(tx, [recorder.Record(m, o, lambda: None) for m, o in zip(claimed, accepted, strict=True)])
    for step in STEPS:
        await take_in(db, line.body(statuses=[status(wamid, step) for wamid in wamids]), lines=[line])
    states = await sql.fetch("SELECT DISTINCT status FROM messages WHERE direction = 'outbound'")
    assert [row["status"] for row in states] == ["read"]

    await db.close()  # a connection tells its counts at its end

    async def counted():
        total, hot = await updates(sql)
        return (total, hot) if total >= len(rows) * (2 + len(STEPS)) else None

    total, hot = await until(counted)
    assert total - hot == len(rows), "one of five: the step out of the index of what waits"


FILL = """
    INSERT INTO messages (tenant_id, id, conversation_id, contact_id, whatsapp_account_id, phone_number_id, direction,
                          type, status)
    SELECT tenant_id, gen_random_uuid(), id, contact_id, whatsapp_account_id, phone_number_id, 'outbound', 'text',
           'queued'
    FROM conversations, generate_series(1, 5000)
"""
# What traffic does to the tables that the migrations touch, with less patience than any process of ours has. Rows that
# another has in hand are left to it: two that lock some in different orders would wait for each other.
TRAFFIC = (
    # A change of a table may have to wait until autovacuum has noticed that it is in the way, and all others behind it.
    "SET lock_timeout = '10s'",
    (
        "INSERT INTO wamids (tenant_id, phone_number_id, wamid, message_id)"
        " SELECT tenant_id, '1', gen_random_uuid()::text, id FROM messages LIMIT 5"
    ),
    "UPDATE messages SET status = 'sending' WHERE id IN (SELECT id FROM messages LIMIT 5 FOR UPDATE SKIP LOCKED)",
    (
        "INSERT INTO parked_events (id, item_key, reason, detail, body, stream_sequence, received_at)"
        " VALUES (gen_random_uuid(), gen_random_uuid()::text, 'malformed', '', '', 1, now())"
    ),
    # A few of them, as each round adds one.
    (
        "UPDATE parked_events SET detail = 'looked at'"
        " WHERE id IN (SELECT id FROM parked_events LIMIT 5 FOR UPDATE SKIP LOCKED)"
    ),
)


async def to_first_revision(database):
    """The schema of the first release."""
    script = (
        "import sys; from alembic import command; from kit.migrations.runner import _config;"
        " from svc_messaging.migrations import VERSIONS; command.upgrade(_config(VERSIONS, sys.argv[1]), '0001')"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, database.owner_url)
    assert await asyncio.wait_for(process.wait(), 120) == 0


async def migrate(database):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AEROSTIC_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "svc_messaging", "migrate"),
        env={**clean, "AEROSTIC_MESSAGING_OWNER_DATABASE_URL": database.owner_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode, out.decode()


async def traffic(url, stop):
    """Work until told to stop; gives how often. A statement that waits too long fails."""
    connection = await asyncpg.connect(url)
    rounds = 0
    try:
        while not stop.is_set():
            for statement in TRAFFIC:
                await connection.execute(statement)
            rounds += 1
            await asyncio.sleep(0.005)
        return rounds
    finally:
        await connection.close()


async def test_migrations_of_a_filled_database_stop_no_traffic_and_begin_anew_what_was_cut_short(postgres, tenant_id):
    database = postgres.empty_database("messaging")
    await to_first_revision(database)
    sql = await asyncpg.connect(database.superuser_url)
    try:
        await make_conversation(sql, tenant_id)
        await sql.execute(FILL)
        await make_parked_event(sql)
        # As a build leaves it that was killed in the middle.
        await sql.execute("CREATE INDEX messages_to_send ON messages (id)")
        await sql.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'messages_to_send'::regclass")
        stop = asyncio.Event()
        working = [asyncio.create_task(traffic(database.superuser_url, stop)) for _ in range(2)]
        # Two at once, as two replicas that start.
        outcomes = await asyncio.gather(migrate(database), migrate(database))
        stop.set()
        rounds = await asyncio.gather(*working)
        assert [code for code, _ in outcomes] == [0, 0], outcomes
        assert all(rounds)
        invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
        assert await sql.fetchval(invalid) == 0
        definition = await sql.fetchval("SELECT indexdef FROM pg_indexes WHERE indexname = 'messages_to_send'")
        assert "(tenant_id, phone_number_id, lane, id)" in definition
    finally:
        await sql.close()
        database.drop()
