"""Conversations: what a contact and a number write each other. At most one of them is open."""

import uuid
from datetime import UTC, datetime

from kit import outbox
from kit.db import Row, Tx
from kit.ids import new_id
from kit.pages import Page
from svc_messaging import events, keyset, snapshots
from svc_messaging.errors import ConversationClosed, ConversationNotFound
from svc_messaging.keyset import Listed

LIST = keyset.Descending(
    snapshots.CONVERSATIONS,
    "conversations c",
    keyset.Column("conversation_last_activity_at", "c.last_activity_at", datetime),
    keyset.Column("conversation_id", "c.id", uuid.UUID),
    scope="c.tenant_id = $1",
)

_HOLD = "SELECT * FROM conversations WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE"
# The window belongs to the customer and the number, not to the conversation: a new one takes it over. The update
# changes nothing; it holds the row of an open one and gives it back.
_OPEN = """
    INSERT INTO conversations (tenant_id, id, contact_id, whatsapp_account_id, phone_number_id, customer_wrote_at)
    VALUES ($1, $2, $3, $4, $5, (
        SELECT max(customer_wrote_at) FROM conversations
        WHERE tenant_id = $1 AND contact_id = $3 AND phone_number_id = $5
    ))
    ON CONFLICT (tenant_id, contact_id, phone_number_id) WHERE state = 'open'
    DO UPDATE SET whatsapp_account_id = excluded.whatsapp_account_id
    RETURNING *
"""
_CLOSE = """
    UPDATE conversations SET state = 'closed', closed_at = now()
    WHERE tenant_id = $1 AND id = $2 AND state = 'open'
    RETURNING true
"""


async def get(tx: Tx, tenant_id: uuid.UUID, conversation_id: uuid.UUID) -> Row:
    """A row of snapshots.CONVERSATIONS. Raises ConversationNotFound."""
    where = "WHERE c.tenant_id = $1 AND c.id = $2"
    row = await tx.fetchrow(f"{snapshots.CONVERSATIONS} {where}", tenant_id, conversation_id)
    if row is None:
        raise ConversationNotFound(conversation_id)
    return row


async def list_page(
    tx: Tx, tenant_id: uuid.UUID, page: Page, *, state: str = "", contact_id: uuid.UUID | None = None
) -> Listed:
    """Rows of snapshots.CONVERSATIONS, the most recently active first; all, or those in a state or with a contact."""
    values: list[object] = [tenant_id]
    where = "c.tenant_id = $1"
    if state:
        values.append(state)
        where += f" AND c.state = ${len(values)}"
    if contact_id:
        values.append(contact_id)
        where += f" AND c.contact_id = ${len(values)}"
    return await LIST.fetch(tx, where, values, page)


async def require(tx: Tx, tenant_id: uuid.UUID, conversation_id: uuid.UUID) -> None:
    """Raises ConversationNotFound."""
    exists = "SELECT true FROM conversations WHERE tenant_id = $1 AND id = $2"
    if not await tx.fetchval(exists, tenant_id, conversation_id):
        raise ConversationNotFound(conversation_id)


async def hold_open(tx: Tx, tenant_id: uuid.UUID, conversation_id: uuid.UUID) -> Row:
    """A row of the table, held open until the transaction ends. Raises ConversationNotFound and ConversationClosed."""
    row = await tx.fetchrow(_HOLD, tenant_id, conversation_id)
    if row is None:
        raise ConversationNotFound(conversation_id)
    if row["state"] != "open":
        raise ConversationClosed
    return row


async def ensure_open(
    tx: Tx, tenant_id: uuid.UUID, contact_id: uuid.UUID, *, whatsapp_account_id: uuid.UUID, phone_number_id: str
) -> Row:
    """The open conversation of a contact and a number, a new one where none is: a row of the table, held open."""
    row = await tx.fetchrow(_OPEN, tenant_id, new_id(), contact_id, whatsapp_account_id, phone_number_id)
    assert row is not None, "an upsert gives its row"
    return row


async def close(tx: Tx, tenant_id: uuid.UUID, conversation_id: uuid.UUID) -> Row:
    """Closing a closed one changes nothing. A row of snapshots.CONVERSATIONS. Raises ConversationNotFound."""
    closed = await tx.fetchval(_CLOSE, tenant_id, conversation_id)
    row = await get(tx, tenant_id, conversation_id)
    if closed:
        await outbox.add(tx, events.leaving(events.of_conversations([row], datetime.now(UTC))))
    return row
