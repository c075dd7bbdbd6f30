"""Setting aside what cannot be processed, with its reason, so that nothing acknowledged disappears."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kit.db import Tx
from kit.ids import new_id

_PARK = """
    INSERT INTO parked_events (id, item_key, reason, detail, phone_number_id, wamid, body, stream_sequence, received_at)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                         $8::bigint[], $9::timestamptz[])
    ON CONFLICT (item_key) DO NOTHING
    RETURNING reason
"""


@dataclass(frozen=True, slots=True)
class Parked:
    """An item to set aside."""

    key: str
    reason: str
    detail: str
    number: str
    wamid: str
    body: str
    sequence: int
    received_at: datetime


async def park(tx: Tx, items: Sequence[Parked]) -> list[str]:
    """Set aside those that are not yet; gives their reasons."""
    if not items:
        return []
    # Ids in the order of arrival; rows in one order everywhere, so that two transactions never wait for each other.
    numbered = sorted(((item, new_id()) for item in items), key=lambda each: each[0].key)
    items, ids = [item for item, _ in numbered], [made for _, made in numbered]
    rows = await tx.fetch(
        _PARK,
        ids,
        [item.key for item in items],
        [item.reason for item in items],
        [item.detail[:2000] for item in items],
        [item.number for item in items],
        [item.wamid for item in items],
        [item.body for item in items],
        [item.sequence for item in items],
        [item.received_at for item in items],
    )
    return [row["reason"] for row in rows]
