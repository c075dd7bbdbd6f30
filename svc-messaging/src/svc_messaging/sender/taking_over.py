"""What an owner finds in the table: messages that one before left behind, and messages that wait.

An owner is new to a partition when it takes its lease, and to a tenant's numbers when the tenant has moved to its
scope. Transactions begin with placements.HOLD.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from kit.db import Tx
from kit.partitions import partition_of
from svc_messaging import lattice
from svc_messaging.placements import SCOPE, SETTLED, SHARED
from svc_messaging.send_commands import Command
from svc_messaging.sender.claims import command_of
from svc_messaging.sender.lanes import Reading

# Walks from number to number by the index, however much waits of each.
_WAITING_NUMBERS = f"""
    WITH RECURSIVE number AS (
        (SELECT tenant_id, phone_number_id FROM messages
         WHERE {lattice.WAITING} AND ($1::uuid IS NULL OR tenant_id = $1)
         ORDER BY tenant_id, phone_number_id LIMIT 1)
        UNION ALL
        SELECT following.* FROM number CROSS JOIN LATERAL (
            SELECT m.tenant_id, m.phone_number_id FROM messages m
            WHERE (m.tenant_id, m.phone_number_id) > (number.tenant_id, number.phone_number_id) AND {lattice.WAITING}
              AND ($1::uuid IS NULL OR m.tenant_id = $1)
            ORDER BY m.tenant_id, m.phone_number_id LIMIT 1
        ) following
    )
    SELECT tenant_id, phone_number_id FROM number
"""

# While a tenant moves, what is in flight was claimed in the scope that it leaves.
_ORPHANS = f"""
    SELECT m.tenant_id, m.id FROM messages m LEFT JOIN placements p ON p.tenant_id = m.tenant_id
    WHERE m.phone_number_id = ANY($1) AND m.status = 'sending' AND {lattice.WAITING}
      AND ($2::uuid IS NULL OR m.tenant_id = $2) AND ({SCOPE} = $3) = {SETTLED}
"""

_TENANTS_HERE = f"""
    SELECT t.id FROM unnest($1::uuid[]) AS t (id) LEFT JOIN placements p ON p.tenant_id = t.id
    WHERE {SCOPE} = $2 AND {SETTLED}
"""
OLDEST = f"""
    SELECT m.* FROM unnest($1::uuid[]) AS t (id) CROSS JOIN LATERAL (
        SELECT tenant_id, id, phone_number_id, contact_id FROM messages
        WHERE tenant_id = t.id AND phone_number_id = $2 AND lane = $3 AND status = 'queued' AND {lattice.WAITING}
          AND next_attempt_at IS NULL AND contact_id <> ALL ($5::uuid[])
        ORDER BY id LIMIT $4
    ) m
    ORDER BY m.id LIMIT $4
"""
"""The messages of a number's lane that wait for nothing but their turn, without those of some contacts."""
# The age of a retry that is not due yet is negative.
_RETRIES = f"""
    SELECT tenant_id, id, phone_number_id, contact_id, lane,
           extract(epoch FROM next_attempt_at - now())::float AS due_seconds
    FROM messages
    WHERE tenant_id = ANY($1) AND phone_number_id = $2 AND status = 'queued' AND {lattice.WAITING}
      AND next_attempt_at IS NOT NULL
    ORDER BY id
"""

_SETTLED_AT = "SELECT settled_at FROM placements WHERE tenant_id = $1"


@dataclass(frozen=True, slots=True)
class Retry:
    """A message that waits for its next try."""

    command: Command
    lane: str
    due_seconds: float


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of a scope."""

    number: int
    count: int
    """Of the scope's partitions."""
    scope: str = SHARED

    @property
    def tenant_id(self) -> uuid.UUID | None:
        """Whose partition it is; None where tenants share it."""
        return uuid.UUID(self.scope) if self.scope else None


async def orphans(tx: Tx, partition: Partition, numbers: Collection[str]) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Messages of a partition's numbers that an earlier owner claimed and never recorded. Only the partition's owner
    may ask: anyone else would find the owner's own claims.
    """
    rows = await tx.fetch(_ORPHANS, list(numbers), partition.tenant_id, partition.scope) if numbers else []
    return [(row["tenant_id"], row["id"]) for row in rows]


async def waiting_numbers(tx: Tx, partition: Partition) -> dict[str, set[uuid.UUID]]:
    """The numbers of a partition of which anything waits, each with the tenants whose messages these are."""
    numbers: dict[str, set[uuid.UUID]] = {}
    for row in await tx.fetch(_WAITING_NUMBERS, partition.tenant_id):
        if partition_of(row["phone_number_id"], partition.count) == partition.number:
            numbers.setdefault(row["phone_number_id"], set()).add(row["tenant_id"])
    return numbers


async def oldest(
    tx: Tx, tenants: Collection[uuid.UUID], phone_number_id: str, scope: str, lane: str, asked: Reading
) -> list[Command]:
    """The oldest messages of a number's lane that wait for nothing but their turn, and may be claimed in the scope."""
    here = await _here(tx, tenants, scope)
    rows = await tx.fetch(OLDEST, here, phone_number_id, lane, asked.most, asked.without) if here else []
    return [command_of(row) for row in rows]


async def retries(tx: Tx, tenants: Collection[uuid.UUID], phone_number_id: str, scope: str) -> list[Retry]:
    """The messages of a number that wait for their next try in the scope."""
    here = await _here(tx, tenants, scope)
    rows = await tx.fetch(_RETRIES, here, phone_number_id) if here else []
    return [Retry(command_of(row), row["lane"], row["due_seconds"]) for row in rows]


async def settled_at(tx: Tx, tenant_id: uuid.UUID) -> datetime | None:
    """When the tenant's latest move settled."""
    moment: datetime | None = await tx.fetchval(_SETTLED_AT, tenant_id)
    return moment


async def _here(tx: Tx, tenants: Collection[uuid.UUID], scope: str) -> list[uuid.UUID]:
    """Those of the tenants whose messages may be claimed in the scope."""
    return [row["id"] for row in await tx.fetch(_TENANTS_HERE, list(tenants), scope)]
