"""Data that is there before the clock starts, written as the product itself would have left it."""

import uuid
from dataclasses import dataclass

import asyncpg

from bench.webhooks import Sent
from devstack.workspace import Workspace

Connection = "asyncpg.Connection[asyncpg.Record]"

_PEOPLE = """
    CREATE TEMP TABLE {people} AS
    SELECT n, $1::uuid AS tenant_id, uuidv7() AS contact_id, uuidv7() AS conversation_id,
           '1650' || lpad(n::text, 8, '0') AS wa_id
    FROM generate_series($2::int, $2::int + $3 - 1) AS n
"""
_CONTACTS = """
    INSERT INTO contacts (tenant_id, id, name, phone, wa_id, user_id)
    SELECT tenant_id, contact_id, 'Customer ' || n, '+' || wa_id, wa_id, 'US.' || wa_id FROM {people}
"""
_IDENTITIES = """
    INSERT INTO contact_identities (tenant_id, kind, value, contact_id)
    SELECT tenant_id, kind, value, contact_id FROM {people},
        LATERAL (VALUES ('user_id', 'US.' || wa_id), ('wa_id', wa_id), ('phone', '+' || wa_id)) AS i (kind, value)
"""
_CONVERSATIONS = """
    INSERT INTO conversations (tenant_id, id, contact_id, whatsapp_account_id, phone_number_id, customer_wrote_at)
    SELECT tenant_id, conversation_id, contact_id, $1, $2, now() FROM {people}
"""
_MESSAGES = """
    INSERT INTO messages (tenant_id, id, conversation_id, contact_id, whatsapp_account_id, phone_number_id, direction,
                          type, body, status, accepted_at, wamid, lane)
    SELECT tenant_id, uuidv7(), conversation_id, contact_id, $1, $2, 'outbound', 'text',
           'Yes, it is in stock, and we send it to Lisbon for 12 euros.', $3,
           CASE WHEN $3 = 'accepted' THEN now() END,
           CASE WHEN $3 = 'accepted' THEN 'wamid.out.' || $4 || '.' || number || '.' || n END, 'bulk'
    FROM {people}, generate_series(1, $5::int) AS number
    ORDER BY number, n
    RETURNING id, wamid, contact_id, phone_number_id, tenant_id
"""
_WAMIDS = """
    INSERT INTO wamids (tenant_id, phone_number_id, wamid, message_id)
    SELECT tenant_id, phone_number_id, wamid, id FROM messages
    WHERE tenant_id = $1 AND id > $2
"""
_LAST = """
    UPDATE conversations c SET last_message_id = m.id
    FROM (SELECT DISTINCT ON (conversation_id) conversation_id, id FROM messages
          WHERE tenant_id = $1 AND id > $2 ORDER BY conversation_id, id DESC) AS m
    WHERE c.tenant_id = $1 AND c.id = m.conversation_id
"""
_CLOSE = """
    UPDATE conversations c
    SET state = 'closed', closed_at = now() - interval '29 days', last_activity_at = now() - interval '30 days'
    FROM {people} p WHERE c.tenant_id = p.tenant_id AND c.id = p.conversation_id
"""
# What is made here refers to what was made a moment before. Checking that, row by row, takes longer than writing it.
_UNCHECKED = "SET LOCAL session_replication_role = replica"


@dataclass(frozen=True, slots=True)
class Queued:
    """A message that waits to be sent."""

    id: uuid.UUID
    contact_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class Place:
    """Whose data it is."""

    tenant_id: uuid.UUID
    account_id: uuid.UUID
    number: str

    @classmethod
    def of(cls, shop: Workspace) -> "Place":
        return cls(uuid.UUID(shop.tenant_id), uuid.UUID(shop.account["id"]), shop.phone_number_id)


class Seeding:
    """Customers of a place, each with one conversation; messages to them. One per connection."""

    def __init__(self, db: "asyncpg.Connection[asyncpg.Record]", place: Place, number: int = 0) -> None:
        """`number`: of the place among those that send webhooks."""
        self._db = db
        self._place = place
        self._number = number
        self._people = f"people_{uuid.uuid4().hex[:12]}"

    async def customers(self, count: int, *, first: int = 0) -> None:
        """The same who write by bench.webhooks.Sender.inbound: numbers from `first` on."""
        place = self._place
        async with self._db.transaction():
            await self._db.execute(f"DROP TABLE IF EXISTS {self._people}")
            await self._run(_PEOPLE.replace("$1", f"'{place.tenant_id}'").replace("$2", f"{first}"), count)
            await self._run(_CONTACTS)
            await self._run(_IDENTITIES)
            await self._run(_CONVERSATIONS, place.account_id, place.number)

    async def sent(self, each: int, *, run: str) -> list[Sent]:
        """So many messages to every customer, accepted by Meta and without a status yet."""
        async with self._db.transaction():
            before = await self._now()
            rows = await self._messages(each, run=run, status="accepted")
            await self._db.execute(_WAMIDS, self._place.tenant_id, before)
            await self._db.execute(_LAST, self._place.tenant_id, before)
        everybody = await self._db.fetch(f"SELECT contact_id, wa_id FROM {self._people}")
        wa_ids = {row["contact_id"]: row["wa_id"] for row in everybody}
        return [Sent(row["wamid"], wa_ids[row["contact_id"]], str(row["id"]), self._number) for row in rows]

    async def fill(self, each: int, *, run: str) -> None:
        """So many messages to every customer, nothing to be done with them."""
        async with self._db.transaction():
            await self._db.execute(_UNCHECKED)
            before = await self._now()
            await self._messages(each, run=run, status="accepted", is_wanted=False)
            await self._db.execute(_WAMIDS, self._place.tenant_id, before)

    async def close(self) -> None:
        """Close the conversations, a month ago."""
        await self._run(_CLOSE)

    async def queued(self, each: int) -> list[Queued]:
        """So many messages to every customer that wait to be sent; who commands the sender is the caller's business."""
        async with self._db.transaction():
            rows = await self._messages(each, run="", status="queued")
        return [Queued(row["id"], row["contact_id"]) for row in rows]

    async def _now(self) -> uuid.UUID:
        """An id that is older than all that follow."""
        now: uuid.UUID = await self._db.fetchval("SELECT uuidv7()")
        return now

    async def _messages(self, each: int, *, run: str, status: str, is_wanted: bool = True) -> list[asyncpg.Record]:
        place = self._place
        statement = _MESSAGES.format(people=self._people)
        if not is_wanted:
            statement, _, _ = statement.partition("RETURNING")
        return await self._db.fetch(statement, place.account_id, place.number, status, run, each)

    async def _run(self, statement: str, *values: object) -> None:
        # Statements that make tables take no parameters.
        if "CREATE" in statement:
            statement = statement.replace("$3", str(values[0]))
            values = ()
        await self._db.execute(statement.format(people=self._people), *values)
