"""Rows of the messaging database as the processes would have left them, written behind row-level security.

`sql` is a connection of the superuser; everything else has a sensible default.
"""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from kit.ids import new_id

Sql = asyncpg.Connection


def moment(seconds: float = 0) -> datetime:
    """Now, or so many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def make_contact(sql: Sql, tenant_id: uuid.UUID, **columns: Any) -> asyncpg.Record:
    """A customer with a number; its identities follow from the columns."""
    digits = f"1650{uuid.uuid4().int % 10**9:09}"
    given = {"name": "Ana", "phone": f"+{digits}", "wa_id": digits, **columns}
    row = await insert(sql, "contacts", tenant_id=tenant_id, **given)
    for kind in ("phone", "user_id", "wa_id"):
        if row[kind]:
            await insert(
                sql,
                "contact_identities",
                tenant_id=tenant_id,
                id=None,
                kind=kind,
                value=row[kind],
                contact_id=row["id"],
            )
    return row


async def make_conversation(
    sql: Sql, tenant_id: uuid.UUID, *, contact_id: uuid.UUID | None = None, **columns: Any
) -> asyncpg.Record:
    """An open conversation in which the customer wrote just now."""
    contact_id = contact_id or (await make_contact(sql, tenant_id))["id"]
    given = {
        "whatsapp_account_id": new_id(),
        "phone_number_id": str(uuid.uuid4().int % 10**15),
        "customer_wrote_at": moment(),
        **columns,
    }
    return await insert(sql, "conversations", tenant_id=tenant_id, contact_id=contact_id, **given)


async def make_message(
    sql: Sql, tenant_id: uuid.UUID, *, conversation: asyncpg.Record | None = None, **columns: Any
) -> asyncpg.Record:
    """The newest message of a conversation: a text from the customer."""
    conversation = conversation or await make_conversation(sql, tenant_id)
    direction = columns.get("direction", "inbound")
    given = {
        "contact_id": conversation["contact_id"],
        "whatsapp_account_id": conversation["whatsapp_account_id"],
        "phone_number_id": conversation["phone_number_id"],
        "direction": direction,
        "type": "text",
        "body": "Is it in stock?",
        "status": "received" if direction == "inbound" else "queued",
        "wamid": f"wamid.{uuid.uuid4().hex}" if direction == "inbound" else None,
        **columns,
    }
    row = await insert(sql, "messages", tenant_id=tenant_id, conversation_id=conversation["id"], **given)
    await sql.execute(
        "UPDATE conversations SET last_message_id = $3, last_activity_at = GREATEST(last_activity_at, $4)"
        " WHERE tenant_id = $1 AND id = $2",
        tenant_id,
        conversation["id"],
        row["id"],
        row["created_at"],
    )
    return row


async def make_media(
    sql: Sql, tenant_id: uuid.UUID, *, data: bytes = b"\xff\xd8\xff\xe0 picture", **columns: Any
) -> asyncpg.Record:
    """An uploaded JPEG, ready to send."""
    given = {"direction": "outbound", "state": "ready", "mime_type": "image/jpeg", "size_bytes": len(data), **columns}
    row = await insert(sql, "media", tenant_id=tenant_id, **given)
    await insert(sql, "media_chunks", tenant_id=tenant_id, id=None, media_id=row["id"], number=0, data=data)
    return row


async def make_parked_event(sql: Sql, **columns: Any) -> asyncpg.Record:
    given = {
        "item_key": uuid.uuid4().hex,
        "reason": "unknown_number",
        "detail": "No workspace has connected the number 1.",
        "body": "{}",
        "stream_sequence": 1,
        "received_at": moment(),
        **columns,
    }
    return await insert(sql, "parked_events", **given)


async def insert(sql: Sql, table: str, **columns: Any) -> asyncpg.Record:
    """Insert a row and give it back whole. `id` is new unless given; None leaves it out."""
    columns = {"id": new_id(), **columns}
    given = {name: _plain(value) for name, value in columns.items() if not (name == "id" and value is None)}
    places = ", ".join(f"${place}" for place in range(1, len(given) + 1))
    row = await sql.fetchrow(f"INSERT INTO {table} ({', '.join(given)}) VALUES ({places}) RETURNING *", *given.values())
    assert row is not None
    return row


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value
