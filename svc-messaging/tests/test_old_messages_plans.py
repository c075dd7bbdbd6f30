"""Finding old messages costs a probe of an index per tenant, and forgetting them a few per message."""

import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio
from webhook_bodies import WORKER

from kit.db import Database
from kit.ids import first_id_at
from svc_messaging.inbox import old_messages
from svc_messaging.inbox.old_messages import FIRST, ROWS

TENANTS = 1000
OF_EACH = 20
FILL = """
    WITH contact AS (
        INSERT INTO contacts (tenant_id, id) SELECT uuidv7(), gen_random_uuid() FROM generate_series(1, $1) RETURNING *
    ), conversation AS (
        INSERT INTO conversations (tenant_id, id, contact_id, whatsapp_account_id, phone_number_id)
        SELECT tenant_id, gen_random_uuid(), id, id, n::text FROM contact, generate_series(1, $2) n RETURNING *
    ), message AS (
        INSERT INTO messages (tenant_id, id, conversation_id, contact_id, whatsapp_account_id, phone_number_id,
                              direction, type, status, media_id, request_id)
        SELECT tenant_id, uuidv7(), id, contact_id, id, '1', 'outbound', 'image', 'read', gen_random_uuid(), id::text
        FROM conversation RETURNING *
    ), file AS (
        INSERT INTO media (tenant_id, id, direction, state, mime_type)
        SELECT tenant_id, media_id, 'outbound', 'ready', '' FROM message
    ), request AS (
        INSERT INTO send_requests (tenant_id, request_id, message_id, fingerprint)
        SELECT tenant_id, request_id, id, '' FROM message
    ), reaction AS (
        INSERT INTO reactions (tenant_id, message_id, direction, emoji, reacted_at)
        SELECT tenant_id, id, 'inbound', '', now() FROM message
    )
    INSERT INTO wamids (tenant_id, phone_number_id, wamid, message_id) SELECT tenant_id, '1', id::text, id FROM message
"""
PAST, FUTURE = datetime.now(UTC) - timedelta(days=30), datetime.now(UTC) + timedelta(days=1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crowded(postgres):
    """The worker's view of a database with many tenants; none of their messages is older than this test."""
    database = postgres.fresh_database("messaging")
    sql = await asyncpg.connect(database.superuser_url)
    await sql.execute(FILL, TENANTS, OF_EACH)
    await sql.execute("VACUUM ANALYZE")
    await sql.close()
    db = await Database.connect(database.worker_url, name="test plans", connections=2)
    yield db
    await db.close()
    database.drop()


async def measured(db, before):
    """The plan of a look as it ran."""
    async with db.begin(WORKER) as tx:
        explained = await tx.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {old_messages.FIND}",
            *(first_id_at(before), FIRST, old_messages.TENANTS, ROWS),
        )
    return json.loads(explained)[0]["Plan"]


def nodes(plan):
    yield plan
    for each in plan.get("Plans", []):
        yield from nodes(each)


async def test_a_look_reads_one_entry_of_each_tenant_when_nothing_is_over(crowded):
    plan = await measured(crowded, PAST)
    kinds = {node["Node Type"] for node in nodes(plan)}
    assert not kinds & {"Seq Scan", "Bitmap Heap Scan", "Sort"}, plan
    used = {node["Index Name"] for node in nodes(plan) if "Index Name" in node}
    assert used == {"messages_pkey"}, plan
    assert plan["Actual Rows"] == 0
    blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert blocks < 8 * TENANTS, "a descent of the index and its leaf's page, for each"


async def test_a_look_ends_at_the_last_tenant_that_it_takes(crowded):
    plan = await measured(crowded, FUTURE)
    [walk] = [node for node in nodes(plan) if node["Node Type"] == "Recursive Union"]
    assert walk["Actual Rows"] <= old_messages.TENANTS + 1
    assert plan["Actual Rows"] == old_messages.TENANTS * OF_EACH


STATEMENTS = {
    **old_messages.HANGING,
    "send_requests": old_messages.REQUESTS,
    "conversations": old_messages.CONVERSATIONS,
    "messages": old_messages.MESSAGES,
    "files held": old_messages.HOLD_FILES,
    "media": old_messages.MEDIA,
}
COLUMNS = {"send_requests": "request_id", "conversations": "conversation_id"}
KEYS = {"files held": "media_id", "media": "media_id"}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_what_is_to_go_is_found_by_an_index(crowded, name):
    async with crowded.begin(WORKER) as tx:
        rows = (await tx.fetch(old_messages.FIND, first_id_at(FUTURE), FIRST, 1, ROWS))[:OF_EACH]
        values = [[row[column] for row in rows] for column in ("tenant_id", KEYS.get(name, "id"))]
        if name in COLUMNS:
            values.append([row[COLUMNS[name]] for row in rows])
        plan = "\n".join(row[0] for row in await tx.fetch(f"EXPLAIN (COSTS OFF) {STATEMENTS[name]}", *values))
    assert "Seq Scan" not in plan, plan
    assert "Index" in plan
