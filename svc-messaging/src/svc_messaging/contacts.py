"""Contacts: the customers of a workspace, each found by any of its identities, or by how its names begin."""

import re
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

FOUND_KEYS: dict[str, type[str | uuid.UUID]] = {"term": str, "contact_id": uuid.UUID}
"""What a search is ordered by, with the types."""

_PHONE = re.compile(r"[+(]?[0-9][0-9 ()./-]*")
# Greater than all that begins with what stands before it, as terms are compared byte by byte.
_BEYOND = "\U0010ffff"
# A contact is told by the first of its terms that fit, so that "ma" finds Maria Mayer once. Asked for as a value, since
# the planner might make a condition into a join and read all that fits.
_SEARCH = f"""
    WITH found AS MATERIALIZED (
        SELECT t.tenant_id, t.contact_id, t.term FROM contact_terms t
        WHERE t.tenant_id = $1 AND t.term >= $2 AND t.term < $3 {{beyond}}
          AND t.term = (
            SELECT o.term FROM contact_terms o
            WHERE o.tenant_id = $1 AND o.contact_id = t.contact_id AND o.term >= $2 ORDER BY o.term LIMIT 1
          )
        ORDER BY {{order}} LIMIT ${{most}}
    )
    {snapshots.FOUND_CONTACTS} ORDER BY {{order}}
"""

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


async def search(tx: Tx, tenant_id: uuid.UUID, query: str, page: Page) -> Listed:
    """Rows of snapshots.FOUND_CONTACTS: the contacts of whom a term begins with what is asked for, by that term."""
    digits = "".join(filter(str.isdigit, query)) if _PHONE.fullmatch(query) else ""
    start = digits or await tx.fetchval("SELECT contact_search_text($1)", query)
    if not start:
        return Listed([], "", "")
    comparison, direction = ("<", "DESC") if page.is_backward else (">", "ASC")
    given = [tenant_id, start, start + _BEYOND, *(page.cursor or {}).values(), page.size + 1]
    found = _SEARCH.format(
        beyond=f"AND (t.term, t.contact_id) {comparison} ($4, $5)" if page.cursor else "",
        order=f"t.term {direction}, t.contact_id {direction}",
        most=len(given),
    )
    return keyset.listed(await tx.fetch(found, *given), page, FOUND_KEYS)


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
