"""Contacts: the customers of a workspace, each found by any of its identities."""

import uuid

from kit.db import Row, Tx
from kit.ids import new_id
from kit.pages import Page
from svc_messaging import keyset, snapshots
from svc_messaging.errors import ContactNotFound
from svc_messaging.keyset import Listed

LIST = keyset.Descending(
    snapshots.CONTACTS, "contacts k", keyset.Column("contact_id", "k.id", uuid.UUID), scope="k.tenant_id = $1"
)

# Held until the transaction ends, so that nobody removes a contact to whom a conversation is about to belong. Where
# the number leads to two contacts, the one that it was written down for as a number is meant.
_FIND = """
    SELECT k.id
    FROM contact_identities i
    JOIN contacts k ON k.tenant_id = i.tenant_id AND k.id = i.contact_id
    WHERE i.tenant_id = $1 AND (i.kind, i.value) IN (('phone', $2), ('wa_id', ltrim($2, '+')))
    ORDER BY i.kind LIMIT 1
    FOR KEY SHARE OF k
"""
# The key of the identities decides who is first: the contact is only there when its identity is.
_ADD = """
    WITH identity AS (
        INSERT INTO contact_identities (tenant_id, kind, value, contact_id) VALUES ($1, 'phone', $2, $3)
        ON CONFLICT DO NOTHING
        RETURNING tenant_id, contact_id, value
    )
    INSERT INTO contacts (tenant_id, id, phone) SELECT tenant_id, contact_id, value FROM identity
    RETURNING id
"""


async def get(tx: Tx, tenant_id: uuid.UUID, contact_id: uuid.UUID) -> Row:
    """A row of snapshots.CONTACTS. Raises ContactNotFound."""
    row = await tx.fetchrow(f"{snapshots.CONTACTS} WHERE k.tenant_id = $1 AND k.id = $2", tenant_id, contact_id)
    if row is None:
        raise ContactNotFound(contact_id)
    return row


async def list_page(tx: Tx, tenant_id: uuid.UUID, page: Page) -> Listed:
    """Rows of snapshots.CONTACTS, newest first."""
    return await LIST.fetch(tx, "k.tenant_id = $1", [tenant_id], page)


async def ensure(tx: Tx, tenant_id: uuid.UUID, phone: str) -> uuid.UUID:
    """The contact with this number (E.164 with "+"); a new one where nobody has it."""
    found = await tx.fetchval(_FIND, tenant_id, phone)
    if found is None:
        found = await tx.fetchval(_ADD, tenant_id, phone, new_id())
    if found is None:
        # Somebody else was quicker, and has committed by now.
        found = await tx.fetchval(_FIND, tenant_id, phone)
    assert isinstance(found, uuid.UUID), "an identity leads to a contact"
    return found
