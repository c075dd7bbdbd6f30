"""What a new owner finds: messages that one before left behind, and messages that wait.

An owner is new to a partition when it takes its lease, and to a tenant's numbers when the tenant has moved to its
scope. Transactions begin with placements.HOLD.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime

from kit.db import Row, Tx
from kit.partitions import partition_of
from svc_messaging import lattice
from svc_messaging.placements import SCOPE, SETTLED, SHARED
from svc_messaging.send_commands import Command
from svc_messaging.sender.claims import command_of

_WAITING_NUMBERS = f"""
    SELECT DISTINCT phone_number_id FROM messages WHERE {lattice.WAITING} AND ($1::uuid IS NULL OR tenant_id = $1)
"""

# While a tenant moves, what is in flight was claimed in the scope that it leaves.
_ORPHANS = f"""
    SELECT m.tenant_id, m.id FROM messages m LEFT JOIN placements p ON p.tenant_id = m.tenant_id
    WHERE m.phone_number_id = ANY($1) AND m.status = 'sending' AND {lattice.WAITING}
      AND ($2::uuid IS NULL OR m.tenant_id = $2) AND ({SCOPE} = $3) = {SETTLED}
"""

# The age of a retry that is not due yet is negative.
_WAITING = f"""
    SELECT m.tenant_id, m.id, m.phone_number_id, m.contact_id, m.lane,
           extract(epoch FROM m.next_attempt_at - now())::float AS due_seconds
    FROM messages m LEFT JOIN placements p ON p.tenant_id = m.tenant_id
    WHERE m.phone_number_id = ANY($1) AND m.status = 'queued' AND {lattice.WAITING}
      AND ($2::uuid IS NULL OR m.tenant_id = $2) AND {SCOPE} = $3 AND {SETTLED}
    ORDER BY m.lane = 'bulk', m.id LIMIT $4
"""

_SETTLED_AT = "SELECT settled_at FROM placements WHERE tenant_id = $1"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued message."""

    command: Command
    lane: str
    due_seconds: float | None
    """Until its next try; None where it waits for nothing but its turn."""


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


async def orphans(tx: Tx, partition: Partition) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Messages of a partition that an earlier owner claimed and never recorded. Only the partition's owner may ask:
    anyone else would find the owner's own claims.
    """
    numbers = await _numbers_of(tx, partition)
    rows = await tx.fetch(_ORPHANS, numbers, partition.tenant_id, partition.scope) if numbers else []
    return [(row["tenant_id"], row["id"]) for row in rows]


async def waiting(tx: Tx, partition: Partition, *, most: int) -> list[Waiting]:
    """The oldest queued messages of a partition, those of the live lane first, for an owner who takes it over: their
    commands may still be held back for the owner before.
    """
    numbers = await _numbers_of(tx, partition)
    return await _waiting(tx, numbers, partition.tenant_id, partition.scope, most) if numbers else []


async def arrived(
    tx: Tx, tenant_id: uuid.UUID, phone_number_id: str, scope: str
) -> tuple[datetime | None, list[Waiting]]:
    """All that waits for a number of a tenant that has moved to the scope, and when that settled."""
    settled_at = await tx.fetchval(_SETTLED_AT, tenant_id)
    return settled_at, await _waiting(tx, [phone_number_id], tenant_id, scope, None)


async def _waiting(
    tx: Tx, numbers: list[str], tenant_id: uuid.UUID | None, scope: str, most: int | None
) -> list[Waiting]:
    rows: list[Row] = await tx.fetch(_WAITING, numbers, tenant_id, scope, most)
    return [Waiting(command_of(row), row["lane"], row["due_seconds"]) for row in rows]


async def _numbers_of(tx: Tx, partition: Partition) -> list[str]:
    rows = await tx.fetch(_WAITING_NUMBERS, partition.tenant_id)
    numbers = [row["phone_number_id"] for row in rows]
    return [each for each in numbers if partition_of(each, partition.count) == partition.number]
