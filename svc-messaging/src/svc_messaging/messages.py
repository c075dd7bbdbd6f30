"""Messages, as they are read. Sending is in `sending`; what customers write is stored by the inbox."""

import uuid

from kit.db import Row, Tx
from kit.pages import Page
from svc_messaging import keyset, snapshots
from svc_messaging.errors import MessageNotFound
from svc_messaging.keyset import Listed

LIST = keyset.Descending(
    snapshots.MESSAGES, "messages m", keyset.Column("id", "m.id", uuid.UUID), scope="m.tenant_id = $1"
)


async def get(tx: Tx, tenant_id: uuid.UUID, message_id: uuid.UUID) -> Row:
    """A row of snapshots.MESSAGES. Raises MessageNotFound."""
    row = await tx.fetchrow(f"{snapshots.MESSAGES} WHERE m.tenant_id = $1 AND m.id = $2", tenant_id, message_id)
    if row is None:
        raise MessageNotFound.in_workspace(message_id)
    return row


async def list_page(tx: Tx, tenant_id: uuid.UUID, conversation_id: uuid.UUID, page: Page) -> Listed:
    """Rows of snapshots.MESSAGES, newest first; none where the conversation is unknown."""
    return await LIST.fetch(tx, "m.tenant_id = $1 AND m.conversation_id = $2", [tenant_id, conversation_id], page)
