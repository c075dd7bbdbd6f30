"""Two contacts that turn out to be one person: the older one stays, with the whole history."""

import uuid

from kit.db import Tx

_IDENTITIES = "UPDATE contact_identities SET contact_id = $2 WHERE tenant_id = $1 AND contact_id = $3"

# One conversation may be open per contact and number: of two, the one that was active last stays open and takes over
# what is unanswered.
_CLOSE_STALER = """
    WITH pairs AS (
        SELECT CASE WHEN a.last_activity_at >= b.last_activity_at THEN a.id ELSE b.id END AS stays,
               CASE WHEN a.last_activity_at >= b.last_activity_at THEN b.id ELSE a.id END AS closes
        FROM conversations a JOIN conversations b USING (tenant_id, phone_number_id)
        WHERE tenant_id = $1 AND a.contact_id = $2 AND b.contact_id = $3 AND a.state = 'open' AND b.state = 'open'
    ), closed AS (
        UPDATE conversations c SET state = 'closed', closed_at = now(), unanswered_count = 0
        FROM pairs, conversations old
        WHERE c.tenant_id = $1 AND c.id = pairs.closes AND old.tenant_id = $1 AND old.id = pairs.closes
        RETURNING pairs.stays, old.unanswered_count, old.customer_wrote_at, c.id
    ), stayed AS (
        UPDATE conversations c
        SET unanswered_count = c.unanswered_count + closed.unanswered_count,
            customer_wrote_at = GREATEST(c.customer_wrote_at, closed.customer_wrote_at)
        FROM closed WHERE c.tenant_id = $1 AND c.id = closed.stays
        RETURNING c.id
    )
    SELECT id FROM closed UNION ALL SELECT id FROM stayed
"""

_CONVERSATIONS = """
    UPDATE conversations SET contact_id = $2 WHERE tenant_id = $1 AND contact_id = $3 RETURNING id
"""

_MESSAGES = "UPDATE messages SET contact_id = $2 WHERE tenant_id = $1 AND conversation_id = ANY($3)"

_COLUMNS = """
    UPDATE contacts c
    SET name = COALESCE(NULLIF(c.name, ''), g.name), username = COALESCE(NULLIF(c.username, ''), g.username),
        phone = COALESCE(NULLIF(c.phone, ''), g.phone), wa_id = COALESCE(NULLIF(c.wa_id, ''), g.wa_id),
        user_id = COALESCE(NULLIF(c.user_id, ''), g.user_id), updated_at = now()
    FROM contacts g
    WHERE c.tenant_id = $1 AND c.id = $2 AND g.tenant_id = $1 AND g.id = $3
"""

_GONE = "DELETE FROM contacts WHERE tenant_id = $1 AND id = $2"


async def merge(tx: Tx, tenant_id: uuid.UUID, *, into: uuid.UUID, gone: uuid.UUID) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Make two contacts one. Gives the keys of the conversations that changed."""
    closed = await tx.fetch(_CLOSE_STALER, tenant_id, into, gone)
    moved = await tx.fetch(_CONVERSATIONS, tenant_id, into, gone)
    await tx.execute(_MESSAGES, tenant_id, into, [row["id"] for row in moved])
    await tx.execute(_IDENTITIES, tenant_id, into, gone)
    await tx.execute(_COLUMNS, tenant_id, into, gone)
    await tx.execute(_GONE, tenant_id, gone)
    return [(tenant_id, row["id"]) for row in {row["id"]: row for row in (*closed, *moved)}.values()]
