"""Parked events, as super admins read them and have them taken in again."""

import uuid

from kit.db import Row, Tx
from kit.pages import Page
from svc_messaging import keyset
from svc_messaging.errors import ParkedEventNotFound
from svc_messaging.keyset import Listed

RETRIES_MAX = 10_000

LIST = keyset.Descending("SELECT * FROM parked_events", "parked_events", keyset.Column("id", "id", uuid.UUID))

_STATES = {
    "": "true",
    "parked": "state = 'parked' AND retry_requested_at IS NULL",
    "retrying": "state = 'parked' AND retry_requested_at IS NOT NULL",
    "settled": "state = 'settled'",
}
_GET = "SELECT * FROM parked_events WHERE id = $1"
_RETRY = """
    UPDATE parked_events SET retry_requested_at = now()
    WHERE id = $1 AND state = 'parked' AND retry_requested_at IS NULL
"""
_RETRY_ALL = """
    WITH wanted AS (
        SELECT id FROM parked_events
        WHERE state = 'parked' AND retry_requested_at IS NULL
          AND ($1 = '' OR reason = $1) AND ($2 = '' OR phone_number_id = $2)
        ORDER BY id LIMIT $3
    ), marked AS (
        UPDATE parked_events SET retry_requested_at = now() FROM wanted WHERE parked_events.id = wanted.id RETURNING 1
    )
    SELECT count(*) FROM marked
"""


async def list_page(tx: Tx, page: Page, *, reason: str = "", state: str = "", phone_number_id: str = "") -> Listed:
    """Rows of the table, newest first; all, or those that meet every condition. Only callers outside any tenant see
    one.
    """
    conditions, values = [_STATES[state]], []
    for column, value in (("reason", reason), ("phone_number_id", phone_number_id)):
        if value:
            values.append(value)
            conditions.append(f"{column} = ${len(values)}")
    return await LIST.fetch(tx, " AND ".join(conditions), values, page)


async def retry(tx: Tx, event_id: uuid.UUID) -> Row:
    """Ask the inbox to take an event in again; gives the event. Raises ParkedEventNotFound."""
    await tx.execute(_RETRY, event_id)
    row = await tx.fetchrow(_GET, event_id)
    if row is None:
        raise ParkedEventNotFound(event_id)
    return row


async def retry_all(tx: Tx, *, reason: str, phone_number_id: str) -> int:
    """Ask the inbox to take in again what meets both conditions, the oldest first; gives how many."""
    count: int = await tx.fetchval(_RETRY_ALL, reason, phone_number_id, RETRIES_MAX)
    return count
