"""Claiming messages: the step that makes a second send impossible.

A message is claimed (`queued` -> `sending`) and committed before its POST. Whoever finds one in `sending` without
having claimed it himself knows that its sender died between the claim and the record, so the outcome is unknown.

That holds within a scope. Where a tenant's messages are claimed in is told by its placement (ADR 0025): every claim
begins by holding placements as they are.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from prometheus_client import Counter

from kit import outbox
from kit.db import Row, Tx
from svc_messaging import placements, send_commands
from svc_messaging.abandoned import mark_unknown
from svc_messaging.placements import SCOPE, SETTLED, SHARED
from svc_messaging.send_commands import Command

_passed_on = Counter("aerostic_sends_passed_on_total", "Commands passed on to where their tenant's work waits now")

# The known move is compared, too: whoever has not looked at what waited when it settled might let the young go first.
_CLAIM = f"""
    UPDATE messages m
    SET status = 'sending', attempts = m.attempts + 1, next_attempt_at = NULL
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[]) AS wanted (tenant_id, id, scope, settled_at)
    LEFT JOIN placements p ON p.tenant_id = wanted.tenant_id, contacts c
    WHERE m.tenant_id = wanted.tenant_id AND m.id = wanted.id AND m.status = 'queued'
      AND c.tenant_id = m.tenant_id AND c.id = m.contact_id
      AND {SCOPE} = wanted.scope AND {SETTLED} AND p.settled_at IS NOT DISTINCT FROM wanted.settled_at
    RETURNING m.tenant_id, m.id, m.contact_id, m.phone_number_id, m.type, m.body, m.content, m.media_id,
              m.reply_to_wamid, m.attempts, c.wa_id, c.phone, c.user_id,
              (SELECT filename FROM media WHERE media.tenant_id = m.tenant_id AND media.id = m.media_id) AS filename
"""

_LEFT = f"""
    SELECT m.tenant_id, m.id, m.phone_number_id, m.contact_id, m.lane, m.status,
           {SCOPE} AS scope, {SETTLED} AS is_settled, p.settled_at
    FROM unnest($1::uuid[], $2::uuid[]) AS wanted (tenant_id, id)
    JOIN messages m ON m.tenant_id = wanted.tenant_id AND m.id = wanted.id
    LEFT JOIN placements p ON p.tenant_id = m.tenant_id
    WHERE m.status IN ('queued', 'sending')
"""

_DUE = """
    UPDATE messages SET next_attempt_at = NULL
    WHERE (tenant_id, id) IN (
        SELECT tenant_id, id FROM messages
        WHERE next_attempt_at <= now() AND status = 'queued'
        ORDER BY next_attempt_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    RETURNING tenant_id, id, phone_number_id, contact_id, lane, attempts,
              (SELECT isolation FROM placements p WHERE p.tenant_id = messages.tenant_id) AS isolation
"""


class Wanted(NamedTuple):
    """A message to claim, and what its asker goes by."""

    command: Command
    scope: str = SHARED
    settled_at: datetime | None = None
    """Of the tenant's latest move when the asker looked at what waits; None where it had never moved."""


@dataclass(slots=True)
class Claimed:
    """What came of wanting messages. Those that are named nowhere need nothing more from who wanted them."""

    rows: list[Row] = field(default_factory=list)
    """Of those that are claimed, in the order in which they were wanted."""
    unseen: set[uuid.UUID] = field(default_factory=set)
    """Messages of tenants that have moved here since the asker looked: to be wanted again after a look."""


async def claim(tx: Tx, wanted: Sequence[Wanted], *, partitions: int) -> Claimed:
    """Claim those that are still queued, in a transaction that began with placements.HOLD.

    Only the number's owner in the scope may call it, and only for messages that it does not have in flight: one that is
    found in `sending` was left behind by somebody, so it becomes unknown. What waits in another scope is commanded
    there. What belongs here but has not settled is left alone: it is commanded when it has.
    """
    rows = await tx.fetch(
        _CLAIM,
        [each.command.tenant_id for each in wanted],
        [each.command.message_id for each in wanted],
        [each.scope for each in wanted],
        [each.settled_at for each in wanted],
    )
    order = {each.command.message_id: place for place, each in enumerate(wanted)}
    claimed = Claimed(sorted(rows, key=lambda row: order[row["id"]]))
    if len(rows) < len(order):
        done = {row["id"] for row in rows}
        await _sort_out(tx, [each for each in wanted if each.command.message_id not in done], claimed, partitions)
    return claimed


async def _sort_out(tx: Tx, left: Sequence[Wanted], claimed: Claimed, partitions: int) -> None:
    """See to those that were not claimed."""
    by_id = {each.command.message_id: each for each in left}
    rows = await tx.fetch(_LEFT, [e.command.tenant_id for e in left], [e.command.message_id for e in left])
    elsewhere: list[Row] = []
    left_behind: list[tuple[uuid.UUID, uuid.UUID]] = []
    for row in rows:
        asked = by_id[row["id"]]
        if row["scope"] != asked.scope:
            if row["status"] == "queued":
                elsewhere.append(row)
        elif row["is_settled"] and row["settled_at"] != asked.settled_at:
            claimed.unseen.add(row["id"])
        elif row["is_settled"] and row["status"] == "sending":
            left_behind.append((row["tenant_id"], row["id"]))
    if left_behind:
        await mark_unknown(tx, left_behind)
    if elsewhere:
        await _pass_on(tx, elsewhere, partitions)


async def _pass_on(tx: Tx, rows: Collection[Row], partitions: int) -> None:
    def place(row: Row) -> tuple[str, str]:
        return row["scope"], row["lane"]

    for (scope, lane), group in groupby(sorted(rows, key=lambda row: (*place(row), row["id"])), key=place):
        commands = [command_of(row) for row in group]
        passed = send_commands.outgoing_together(commands, lane=lane, partitions=partitions, scope=scope)
        await outbox.add(tx, list(passed))
    _passed_on.inc(len(rows))


async def release_due(tx: Tx, *, partitions: int, most: int) -> int:
    """Command the messages whose retry is due. Gives how many."""
    rows = await tx.fetch(_DUE, most)
    commands = [
        send_commands.outgoing(
            command_of(row),
            lane=row["lane"],
            partitions=partitions,
            scope=placements.scope_of(row["tenant_id"], row["isolation"]),
            attempt=row["attempts"],
        )
        for row in sorted(rows, key=lambda row: row["id"])
    ]
    await outbox.add(tx, commands)
    return len(rows)


def command_of(row: Row) -> Command:
    return Command(row["id"], row["tenant_id"], row["phone_number_id"], row["contact_id"])
