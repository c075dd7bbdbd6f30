"""What Meta sends of an erased workspace, late or again: it is not kept, and the number shows among the parked events.

Meta goes on where its subscription could not be ended, and the journal holds what came before. Neither may bring back
what was erased, nor carry it to whoever has the number now.
"""

from kit.db import Tx
from kit.ids import new_id
from svc_messaging import erasures
from svc_messaging.inbox.batch import Batch
from svc_messaging.inbox.items import Item, Unusable

# One for all that ever comes for a number, without content, and settled: there is nothing to do about it.
_NOTE = """
    INSERT INTO parked_events (id, item_key, reason, detail, phone_number_id, body, stream_sequence, received_at, state,
                               settled_at)
    SELECT id, 'erased_number:' || number, 'erased_number', $3, number, '', 0, now(), 'settled', now()
    FROM unnest($1::uuid[], $2::text[]) AS n (id, number)
    ON CONFLICT (item_key) DO NOTHING
"""
_DETAIL = "What came for this number belonged to a workspace that was erased, or to nobody since; it is not kept."


async def leave_out(tx: Tx, batch: Batch) -> None:
    """Take out of a batch what belonged to erased workspaces."""
    pairs: list[tuple[Item | Unusable, int]] = [*batch.written, *batch.told, *batch.unusable]
    items = [item for item, _ in pairs]
    numbers = {item.number for item in items if item.number}
    owners = {number: batch.owners[number].tenant_id for number in numbers & batch.owners.keys()}
    had, gone = await erasures.marked(tx, numbers, set(owners.values()))
    if not had and not gone:
        return

    def is_erased(item: Item | Unusable) -> bool:
        if (owner := owners.get(item.number)) in gone:
            return True
        until = had.get(item.number)
        return until is not None and (owner is None or item.received_at <= until)

    erased = sorted({item.number for item in items if is_erased(item)})
    batch.written = [each for each in batch.written if not is_erased(each[0])]
    batch.told = [each for each in batch.told if not is_erased(each[0])]
    batch.unusable = [each for each in batch.unusable if not is_erased(each[0])]
    await tx.execute(_NOTE, [new_id() for _ in erased], erased, _DETAIL)
