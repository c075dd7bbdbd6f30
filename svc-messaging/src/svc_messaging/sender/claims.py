"""Claiming messages: the step that makes a second send impossible.

A message is claimed (`queued` -> `sending`) and committed before its POST. Whoever finds one in `sending` without
having claimed it himself knows that its sender died between the claim and the record, so the outcome is unknown.
"""

import json
import uuid
from collections.abc import Sequence

from kit import outbox
from kit.db import Row, Tx
from kit.partitions import partition_of
from svc_messaging import events, lattice, send_commands
from svc_messaging.send_commands import Command
from svc_messaging.sender import outcomes

_CLAIM = """
    UPDATE messages m
    SET status = 'sending', attempts = m.attempts + 1, next_attempt_at = NULL
    FROM unnest($1::uuid[], $2::uuid[]) AS wanted (tenant_id, id), contacts c
    WHERE m.tenant_id = wanted.tenant_id AND m.id = wanted.id AND m.status = 'queued'
      AND c.tenant_id = m.tenant_id AND c.id = m.contact_id
    RETURNING m.tenant_id, m.id, m.contact_id, m.phone_number_id, m.type, m.body, m.content, m.media_id,
              m.reply_to_wamid, m.attempts, c.wa_id, c.phone, c.user_id,
              (SELECT filename FROM media WHERE media.tenant_id = m.tenant_id AND media.id = m.media_id) AS filename
"""

_MARK_UNKNOWN = """
    UPDATE messages
    SET status = 'unknown', failure = $3
    WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[])) AND status = 'sending'
    RETURNING tenant_id, id
"""

_WAITING_NUMBERS = f"SELECT DISTINCT phone_number_id FROM messages WHERE {lattice.WAITING}"

_ORPHANS = f"""
    SELECT tenant_id, id FROM messages WHERE phone_number_id = ANY($1) AND status = 'sending' AND {lattice.WAITING}
"""

_WAITING = f"""
    SELECT tenant_id, id, phone_number_id, contact_id, lane FROM messages
    WHERE phone_number_id = ANY($1) AND status = 'queued' AND next_attempt_at IS NULL AND {lattice.WAITING}
    ORDER BY lane = 'bulk', id LIMIT $2
"""

_DUE = """
    UPDATE messages SET next_attempt_at = NULL
    WHERE (tenant_id, id) IN (
        SELECT tenant_id, id FROM messages
        WHERE next_attempt_at <= now() AND status = 'queued'
        ORDER BY next_attempt_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    RETURNING tenant_id, id, phone_number_id, contact_id, lane, attempts
"""


async def claim(tx: Tx, commands: Sequence[Command]) -> list[Row]:
    """Claim those that are still queued; gives their rows in the order of the commands.

    Only the number's owner may call it, and only for messages that it does not have in flight: one that is found in
    `sending` was left behind by somebody, so it becomes unknown.
    """
    rows = await tx.fetch(_CLAIM, [c.tenant_id for c in commands], [c.message_id for c in commands])
    claimed = {row["id"] for row in rows}
    if left := [(c.tenant_id, c.message_id) for c in commands if c.message_id not in claimed]:
        await mark_unknown(tx, left)
    order = {command.message_id: place for place, command in enumerate(commands)}
    return sorted(rows, key=lambda row: order[row["id"]])


async def orphans(tx: Tx, partition: int, partitions: int) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Messages of a partition that an earlier owner claimed and never recorded. Only the partition's owner may ask:
    anyone else would find the owner's own claims.
    """
    numbers = await _numbers_of(tx, partition, partitions)
    rows = await tx.fetch(_ORPHANS, numbers) if numbers else []
    return [(row["tenant_id"], row["id"]) for row in rows]


async def waiting(tx: Tx, partition: int, partitions: int, *, most: int) -> list[tuple[Command, str]]:
    """The oldest queued messages of a partition, those of the live lane first, each with its lane, for an owner who
    takes it over: their commands may still be held back for the owner before.
    """
    numbers = await _numbers_of(tx, partition, partitions)
    rows = await tx.fetch(_WAITING, numbers, most) if numbers else []
    return [(_command(row), row["lane"]) for row in rows]


async def mark_unknown(tx: Tx, messages: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> None:
    """Say honestly that the outcome of these is not known. Idempotent: only rows still `sending` change."""
    tenants, ids = [tenant for tenant, _ in messages], [message for _, message in messages]
    failure = outcomes.as_json(outcomes.unknown("the sender stopped before it was recorded"))
    changed = await tx.fetch(_MARK_UNKNOWN, tenants, ids, json.dumps(failure))
    await outbox.add(tx, await events.messages_updated(tx, [(row["tenant_id"], row["id"]) for row in changed]))


async def release_due(tx: Tx, *, partitions: int, most: int) -> int:
    """Command the messages whose retry is due. Gives how many."""
    rows = await tx.fetch(_DUE, most)
    commands = [
        send_commands.outgoing(_command(row), lane=row["lane"], partitions=partitions, attempt=row["attempts"])
        for row in sorted(rows, key=lambda row: row["id"])
    ]
    await outbox.add(tx, commands)
    return len(rows)


def _command(row: Row) -> Command:
    return Command(row["id"], row["tenant_id"], row["phone_number_id"], row["contact_id"])


async def _numbers_of(tx: Tx, partition: int, partitions: int) -> list[str]:
    rows = await tx.fetch(_WAITING_NUMBERS)
    return [row["phone_number_id"] for row in rows if partition_of(row["phone_number_id"], partitions) == partition]
