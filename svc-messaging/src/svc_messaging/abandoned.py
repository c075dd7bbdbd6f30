"""Messages that somebody claimed and will not record: whether they were sent is unknown, and never tried out."""

import json
import uuid
from collections.abc import Sequence

from kit import outbox
from kit.db import Tx
from svc_messaging import events

REASON = "OUTCOME_UNKNOWN"
ADVICE = "Wait for a status from Meta, or look at the customer's phone before sending it again."

_MARK = """
    UPDATE messages
    SET status = 'unknown', failure = $3
    WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[])) AND status = 'sending'
    RETURNING tenant_id, id
"""


def detail(why: str) -> str:
    """For people."""
    return f"Meta's answer was lost ({why})."


async def mark_unknown(tx: Tx, messages: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> None:
    """Say honestly that the outcome of these is not known. Idempotent: only rows still `sending` change."""
    tenants, ids = [tenant for tenant, _ in messages], [message for _, message in messages]
    why = detail("the sender stopped before it was recorded")
    failure = {"reason": REASON, "metaCode": 0, "detail": why, "advice": ADVICE}
    changed = await tx.fetch(_MARK, tenants, ids, json.dumps(failure))
    await outbox.add(tx, await events.messages_updated(tx, [(row["tenant_id"], row["id"]) for row in changed]))
