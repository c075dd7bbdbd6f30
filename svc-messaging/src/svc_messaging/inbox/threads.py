"""The open conversation of a contact and a number: found, opened, and moved by what the customer wrote."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from kit.db import Tx
from kit.ids import new_id
from svc_messaging.events import Key
from svc_messaging.inbox.items import Written
from svc_messaging.inbox.numbers import Owner

_MOVE = """
    INSERT INTO conversations (tenant_id, id, contact_id, whatsapp_account_id, phone_number_id, unanswered_count,
                               last_message_id, last_activity_at, customer_wrote_at)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::int[], $7::uuid[],
                         $8::timestamptz[], $9::timestamptz[])
    ON CONFLICT (tenant_id, contact_id, phone_number_id) WHERE state = 'open'
    DO UPDATE SET unanswered_count = conversations.unanswered_count + EXCLUDED.unanswered_count,
        last_message_id = GREATEST(conversations.last_message_id, EXCLUDED.last_message_id),
        last_activity_at = CASE WHEN EXCLUDED.last_message_id IS NULL THEN conversations.last_activity_at
                                ELSE GREATEST(conversations.last_activity_at, EXCLUDED.last_activity_at) END,
        customer_wrote_at = GREATEST(conversations.customer_wrote_at, EXCLUDED.customer_wrote_at)
    RETURNING tenant_id, id, contact_id, phone_number_id
"""


class Placed(Protocol):
    """A message on its way into a conversation."""

    item: Written
    owner: Owner
    id: uuid.UUID
    contact_id: uuid.UUID | None
    conversation_id: uuid.UUID | None


async def move(tx: Tx, messages: Sequence[Placed]) -> list[Key]:
    """Give each message its conversation; those of a thread in one go. Gives the conversations' keys."""
    threads: dict[tuple[uuid.UUID, uuid.UUID, str], list[Placed]] = {}
    for each in messages:
        assert each.contact_id is not None
        threads.setdefault((each.owner.tenant_id, each.contact_id, each.item.number), []).append(each)
    # In one order everywhere, so that two transactions never wait for each other.
    rows = [_row(key, threads[key]) for key in sorted(threads)]
    found = await tx.fetch(_MOVE, *(list(column) for column in zip(*rows, strict=True)))
    for row in found:
        for each in threads[row["tenant_id"], row["contact_id"], row["phone_number_id"]]:
            each.conversation_id = row["id"]
    return [(row["tenant_id"], row["id"]) for row in found]


def _row(key: tuple[uuid.UUID, uuid.UUID, str], messages: Sequence[Placed]) -> tuple[object, ...]:
    tenant_id, contact_id, number = key
    talk = [each for each in messages if each.item.is_talk]
    # Meta's clock opens the window, and what the business itself causes does not (system messages).
    wrote: list[datetime] = [each.item.sent_at for each in messages if each.item.type != "system"]
    return (
        tenant_id,
        new_id(),
        contact_id,
        messages[-1].owner.account_id,
        number,
        len(talk),
        max((each.id for each in talk), default=None),
        max(each.item.received_at for each in messages),
        max(wrote, default=None),
    )
