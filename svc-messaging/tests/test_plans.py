"""Every statement of the server finds its rows by an index, however many messages the installation has."""

import itertools
import re
import uuid
from datetime import UTC, datetime

import asyncpg
import pytest
import pytest_asyncio
from messaging_factories import make_conversation

from kit.db import Database
from kit.ids import new_id
from kit.pages import Page
from kit.principal import Principal
from svc_messaging import contacts, conversations, media, messages, parked_events, queues, sending, snapshots

ROWS = 3000
FILL = """
    INSERT INTO messages (tenant_id, id, conversation_id, contact_id, whatsapp_account_id, phone_number_id, direction,
                          type, status, accepted_at)
    SELECT $1, gen_random_uuid(), $2, $3, $4, $5, 'outbound', 'text', CASE n % 10 WHEN 0 THEN 'queued' ELSE 'sent' END,
           CASE n % 10 WHEN 0 THEN NULL ELSE now() END
    FROM generate_series(1, $6) n
"""
FILL_CONTACTS = """
    WITH made AS (
        INSERT INTO contacts (tenant_id, id, phone) SELECT $1, gen_random_uuid(), '+1650' || n
        FROM generate_series(1, $2) n RETURNING *
    ), named AS (
        INSERT INTO contact_identities (tenant_id, kind, value, contact_id)
        SELECT tenant_id, 'phone', phone, id FROM made
    )
    INSERT INTO conversations (tenant_id, id, contact_id, whatsapp_account_id, phone_number_id, state, last_activity_at)
    SELECT tenant_id, gen_random_uuid(), id, id, '1',
           CASE row_number() OVER () % 100 WHEN 0 THEN 'closed' ELSE 'open' END, now() - random() * interval '90 days'
    FROM made
"""


class Explained(Exception):
    """Ends a statement before it does anything."""


class Explaining:
    """A transaction that explains each statement instead of running it, and then gives up."""

    def __init__(self, tx):
        self.tx = tx
        self.plan = ""

    async def fetch(self, statement, *values):
        rows = await self.tx.fetch(f"EXPLAIN (COSTS OFF) {statement}", *values)
        self.plan = "\n".join(row[0] for row in rows)
        raise Explained

    fetchrow = fetchval = execute = fetch


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crowded(postgres):
    """A database with many rows of two tenants; gives it with a conversation of one of them."""
    database = postgres.fresh_database("messaging")
    sql = await asyncpg.connect(database.superuser_url)
    for tenant_id in (new_id(), new_id()):
        row = await make_conversation(sql, tenant_id)
        values = tenant_id, row["id"], row["contact_id"], row["whatsapp_account_id"], row["phone_number_id"]
        await sql.execute(FILL, *values, ROWS)
        await sql.execute(FILL_CONTACTS, tenant_id, ROWS)
    await sql.execute(
        "INSERT INTO placements (tenant_id, isolation)"
        " SELECT gen_random_uuid(), 'dedicated' FROM generate_series(1, $1)",
        ROWS,
    )
    await sql.execute("INSERT INTO erased_tenants (id) SELECT gen_random_uuid() FROM generate_series(1, $1)", ROWS)
    await sql.execute(
        "INSERT INTO placements (tenant_id, isolation) SELECT gen_random_uuid(), 'shared' FROM generate_series(1, $1)",
        ROWS,
    )
    await sql.execute(
        "INSERT INTO parked_events (id, item_key, reason, detail, body, stream_sequence, received_at)"
        " SELECT gen_random_uuid(), n::text, 'malformed', '', '', 1, now() FROM generate_series(1, $1) n",
        ROWS,
    )
    await sql.execute(
        "INSERT INTO media (tenant_id, id, direction, state, mime_type)"
        " SELECT $1, gen_random_uuid(), 'inbound', 'ready', '' FROM generate_series(1, $2) n",
        tenant_id,
        ROWS,
    )
    await sql.execute(
        "INSERT INTO media_chunks (tenant_id, media_id, number, data) SELECT $1, id, 0, '' FROM media", tenant_id
    )
    await sql.execute(
        "INSERT INTO send_requests (tenant_id, request_id, message_id, fingerprint)"
        " SELECT tenant_id, id::text, id, '' FROM messages"
    )
    await sql.execute(
        "INSERT INTO reactions (tenant_id, message_id, direction, emoji, reacted_at)"
        " SELECT tenant_id, id, direction, '', now() FROM messages"
    )
    await sql.execute("ANALYZE")
    await sql.close()
    db = await Database.connect(database.app_url, name="test plans")
    yield db, row
    await db.close()
    database.drop()


def page(cursor=None, *, backward=False):
    return Page(50, cursor, is_backward=backward, scope="")


SOME_TIME = datetime(2026, 5, 1, tzinfo=UTC)
# Half of the rows stand on either side of it.
MIDDLE = uuid.UUID(int=2**127)
BY_ACTIVITY = {"conversation_last_activity_at": SOME_TIME, "conversation_id": MIDDLE}
BY_TERM = {"term": "1650", "contact_id": MIDDLE}
ONE, OTHER = {"id": MIDDLE}, {"contact_id": MIDDLE}
STATEMENTS = {
    "contacts": lambda tx, c: contacts.list_page(tx, c["tenant_id"], page()),
    "contacts onward": lambda tx, c: contacts.list_page(tx, c["tenant_id"], page(OTHER)),
    "contacts back": lambda tx, c: contacts.list_page(tx, c["tenant_id"], page(OTHER, backward=True)),
    # By number, as a name is first asked for as terms have it, which is no statement about a table.
    "contacts by query": lambda tx, c: contacts.search(tx, c["tenant_id"], "+1650", page()),
    "contacts by query onward": lambda tx, c: contacts.search(tx, c["tenant_id"], "+1650", page(BY_TERM)),
    "contacts by query back": lambda tx, c: contacts.search(tx, c["tenant_id"], "+1650", page(BY_TERM, backward=True)),
    "a contact": lambda tx, c: contacts.get(tx, c["tenant_id"], c["contact_id"]),
    "a contact by phone": lambda tx, c: contacts.ensure(tx, c["tenant_id"], "+16505551234"),
    "conversations": lambda tx, c: conversations.list_page(tx, c["tenant_id"], page()),
    "conversations onward": lambda tx, c: conversations.list_page(tx, c["tenant_id"], page(BY_ACTIVITY)),
    "conversations back": lambda tx, c: conversations.list_page(tx, c["tenant_id"], page(BY_ACTIVITY, backward=True)),
    "closed conversations": lambda tx, c: conversations.list_page(tx, c["tenant_id"], page(), state="closed"),
    "closed conversations onward": lambda tx, c: conversations.list_page(
        tx, c["tenant_id"], page(BY_ACTIVITY), state="closed"
    ),
    "a contact's conversations": lambda tx, c: conversations.list_page(
        tx, c["tenant_id"], page(), contact_id=c["contact_id"]
    ),
    "a conversation": lambda tx, c: conversations.get(tx, c["tenant_id"], c["id"]),
    "whether a conversation is there": lambda tx, c: conversations.require(tx, c["tenant_id"], c["id"]),
    "holding a conversation": lambda tx, c: conversations.hold_open(tx, c["tenant_id"], c["id"]),
    "opening a conversation": lambda tx, c: conversations.ensure_open(
        tx, c["tenant_id"], c["contact_id"], whatsapp_account_id=new_id(), phone_number_id="1"
    ),
    "closing a conversation": lambda tx, c: conversations.close(tx, c["tenant_id"], c["id"]),
    "messages": lambda tx, c: messages.list_page(tx, c["tenant_id"], c["id"], page()),
    "messages onward": lambda tx, c: messages.list_page(tx, c["tenant_id"], c["id"], page(ONE)),
    "messages back": lambda tx, c: messages.list_page(tx, c["tenant_id"], c["id"], page(ONE, backward=True)),
    "a message": lambda tx, c: messages.get(tx, c["tenant_id"], new_id()),
    "a request id": lambda tx, c: tx.fetchrow(sending._FIND_REQUEST, c["tenant_id"], "r-1"),
    "a quoted message": lambda tx, c: tx.fetchval(sending._WAMID, c["tenant_id"], new_id(), c["id"]),
    "whether a queue is full": lambda tx, c: tx.fetchval(queues._WAITING, c["tenant_id"], c["phone_number_id"], 10_000),
    "storing a message": lambda tx, c: sending._store(
        tx, c, sending.Draft("", sending.Content("text"), new_id()), None
    ),
    "what was stored": lambda tx, c: tx.fetchrow(
        f"{snapshots.CONVERSATIONS} WHERE c.tenant_id = $1 AND c.id = $2", c["tenant_id"], c["id"]
    ),
    "a file": lambda tx, c: media.get(tx, c["tenant_id"], new_id()),
    "holding a file": lambda tx, c: media.retry(tx, c["tenant_id"], new_id()),
    "chunks": lambda tx, c: media.chunks(tx, c["tenant_id"], new_id(), first=4, most=4),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_statement_reads_a_whole_table(crowded, name):
    db, conversation = crowded
    async with db.begin(Principal.service("tests").on_behalf_of(conversation["tenant_id"])) as tx:
        explaining = Explaining(tx)
        with pytest.raises(Explained):
            await STATEMENTS[name](explaining, conversation)
    assert "Seq Scan" not in explaining.plan, explaining.plan
    assert "Index" in explaining.plan


@pytest.mark.parametrize("reason", ["", "malformed"])
@pytest.mark.parametrize("cursor", [None, ONE])
async def test_parked_events_are_found_by_an_index(crowded, reason, cursor):
    db, _ = crowded
    async with db.begin(Principal.service("tests")) as tx:
        explaining = Explaining(tx)
        with pytest.raises(Explained):
            await parked_events.list_page(explaining, page(cursor), reason=reason)
    assert "Seq Scan" not in explaining.plan, explaining.plan
    assert "Sort" not in below_limit(explaining.plan), explaining.plan


PAGES = [
    name for name in STATEMENTS if re.fullmatch(r"(contacts( by query)?|conversations|messages)( onward| back)?", name)
]


@pytest.mark.parametrize("name", PAGES)
async def test_pages_come_from_the_index_in_their_order(crowded, name):
    db, conversation = crowded
    async with db.begin(Principal.service("tests").on_behalf_of(conversation["tenant_id"])) as tx:
        explaining = Explaining(tx)
        with pytest.raises(Explained):
            await STATEMENTS[name](explaining, conversation)
    assert "Sort" not in below_limit(explaining.plan), explaining.plan


async def test_a_search_reads_nothing_but_what_begins_like_the_query(crowded):
    db, conversation = crowded
    async with db.begin(Principal.service("tests").on_behalf_of(conversation["tenant_id"])) as tx:
        explaining = Explaining(tx)
        with pytest.raises(Explained):
            await STATEMENTS["contacts by query"](explaining, conversation)
    # Under row-level security only what is leakproof may be a condition on an index.
    bounds = r"contact_terms_by_term .*\n.*Index Cond: .*term >= '1650'.* AND \(term < '1650"
    assert re.search(bounds, explaining.plan), explaining.plan


@pytest.mark.parametrize("name", ["closed conversations", "closed conversations onward"])
async def test_the_few_conversations_in_a_state_are_found_without_the_many_in_the_other(crowded, name):
    db, conversation = crowded
    async with db.begin(Principal.service("tests").on_behalf_of(conversation["tenant_id"])) as tx:
        explaining = Explaining(tx)
        with pytest.raises(Explained):
            await STATEMENTS[name](explaining, conversation)
    found = below_limit(explaining.plan)
    assert "conversations_by_state" in found, explaining.plan
    assert "Filter: (state" not in found, explaining.plan
    assert "conversations_pkey" in explaining.plan.replace(found, ""), explaining.plan


def below_limit(plan):
    """What lies below the node that cuts the page."""
    lines = plan.splitlines()
    place = next(place for place, line in enumerate(lines) if line.strip().removeprefix("->  ") == "Limit")
    depth = lines[place].index("L")
    return "\n".join(itertools.takewhile(lambda line: len(line) - len(line.lstrip()) >= depth, lines[place + 1 :]))


async def test_a_full_queue_is_counted_by_the_index_of_waiting_messages(crowded):
    db, conversation = crowded
    async with db.begin(Principal.service("tests").on_behalf_of(conversation["tenant_id"])) as tx:
        explaining = Explaining(tx)
        with pytest.raises(Explained):
            await STATEMENTS["whether a queue is full"](explaining, conversation)
    assert "messages_to_send" in explaining.plan, explaining.plan
