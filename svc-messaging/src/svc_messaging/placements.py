"""Where a tenant's work waits, and how that changes (ADR 0025).

A **scope** is the partitions that tenants share, or those of one dedicated tenant. A move has two steps. `move` names
the new scope: from then on nobody claims the tenant's messages. `settle`, when none of them is on its way to Meta any
more, opens the new scope. A lock orders them with the claims: whoever claims holds it shared, whoever changes a
placement holds it alone.
"""

import uuid
import zlib
from dataclasses import dataclass
from datetime import datetime

from kit import outbox
from kit.db import Row, Tx
from svc_messaging import lattice, send_commands
from svc_messaging.send_commands import Command

SHARED = ""
"""The scope of all tenants that have none of their own; the others are named by the tenant's id."""

_KEY = f"{zlib.crc32(b'placements') & 0x7FFF_FFFF}, 0"
HOLD = f"SELECT pg_advisory_xact_lock_shared({_KEY})"
"""First statement of a transaction: no placement changes until it ends, and later statements see those that have."""
CHANGE = f"SELECT set_config('lock_timeout', '2s', true); SELECT pg_advisory_xact_lock({_KEY})"
"""First statements of a transaction that changes a placement. Gives up after two seconds (LockNotAvailableError), since
claims wait behind it.
"""

SCOPE = "CASE p.isolation WHEN 'dedicated' THEN p.tenant_id::text ELSE '' END"
"""SQL: the scope by a row `p` of placements, or by none."""
SETTLED = "(p.tenant_id IS NULL OR p.settled_at IS NOT NULL)"
"""SQL: the scope may claim, by a row `p` of placements, or by none."""

HAND_OVER_SECONDS = 1.25
"""After so long nothing of a former owner's last second at Meta counts any more; a quarter is for what it had just
written.
"""
IN_FLIGHT_SECONDS_MAX = 60
"""After so long whatever a move waits for is given up: what is still on its way is unknown."""

_ALL = "SELECT tenant_id, isolation, moved_at, settled_at FROM placements"
_MOVE = """
    INSERT INTO placements AS p (tenant_id, isolation)
    SELECT $1, $2
    WHERE ($2 = 'dedicated' OR EXISTS (SELECT FROM placements WHERE tenant_id = $1))
      AND NOT EXISTS (SELECT FROM erased_tenants WHERE id = $1)
    ON CONFLICT (tenant_id) DO UPDATE SET isolation = $2, moved_at = clock_timestamp(), settled_at = NULL
    WHERE p.isolation <> $2 AND p.settled_at IS NOT NULL
    RETURNING true
"""
# A transaction that began before the move may have commanded a message to the old scope, and commit it only now.
_LOOK = f"""
    SELECT NOT EXISTS (
               SELECT FROM messages m WHERE m.tenant_id = p.tenant_id AND {lattice.WAITING} AND m.status = 'sending'
           ) AS is_drained,
           clock_timestamp() - p.moved_at > make_interval(secs => {IN_FLIGHT_SECONDS_MAX}) AS is_overdue,
           pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest_transaction,
           pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next_transaction
    FROM placements p
    WHERE p.tenant_id = $1 AND p.moved_at = $2 AND p.settled_at IS NULL
"""
_SENDING = f"""
    SELECT m.tenant_id, m.id FROM placements p JOIN messages m ON m.tenant_id = p.tenant_id
    WHERE p.tenant_id = $1 AND p.moved_at = $2 AND p.settled_at IS NULL AND {lattice.WAITING} AND m.status = 'sending'
"""
_SETTLE = """
    UPDATE placements SET settled_at = clock_timestamp()
    WHERE tenant_id = $1 AND moved_at = $2 AND settled_at IS NULL
    RETURNING isolation, extract(epoch FROM settled_at - moved_at)::float AS seconds
"""
_OLDEST_BY_NUMBER = f"""
    SELECT DISTINCT ON (phone_number_id) tenant_id, id, phone_number_id, contact_id, lane FROM messages
    WHERE tenant_id = $1 AND {lattice.WAITING} AND status = 'queued' AND next_attempt_at IS NULL
    ORDER BY phone_number_id, id
"""
_FORGET = "DELETE FROM placements WHERE tenant_id = $1 AND moved_at = $2 AND isolation = 'shared'"


def scope_of(tenant_id: uuid.UUID, isolation: str | None) -> str:
    """The scope of a tenant by its placement; None where it has none."""
    return str(tenant_id) if isolation == "dedicated" else SHARED


@dataclass(frozen=True, slots=True)
class Move:
    """A move that has begun. The moment tells it from others of the tenant."""

    tenant_id: uuid.UUID
    moved_at: datetime


async def every(tx: Tx) -> list[Row]:
    """All placements; a tenant without one shares and has never moved."""
    return await tx.fetch(_ALL)


async def move(tx: Tx, tenant_id: uuid.UUID, isolation: str) -> bool:
    """Name the tenant's new scope; after CHANGE. False where it has that one, or a move of it is under way."""
    return bool(await tx.fetchval(_MOVE, tenant_id, isolation))


async def look(tx: Tx, each: Move) -> Row | None:
    """What the move still waits for. None where it has settled."""
    return await tx.fetchrow(_LOOK, each.tenant_id, each.moved_at)


async def still_sending(tx: Tx, each: Move) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Keys of the messages that the old scope has on their way; after CHANGE. None of a move that has settled."""
    return [(row["tenant_id"], row["id"]) for row in await tx.fetch(_SENDING, each.tenant_id, each.moved_at)]


async def settle(tx: Tx, each: Move, *, partitions: int) -> Row | None:
    """Open the new scope, and command one message of each number there, so that its sender looks at what waits; after
    CHANGE. Gives `isolation` and the `seconds` that it took; None where somebody else was first.
    """
    settled = await tx.fetchrow(_SETTLE, each.tenant_id, each.moved_at)
    if settled is None:
        return None
    scope = scope_of(each.tenant_id, settled["isolation"])
    rows = await tx.fetch(_OLDEST_BY_NUMBER, each.tenant_id)
    commands = [(Command(row["id"], row["tenant_id"], row["phone_number_id"], row["contact_id"]), row) for row in rows]
    for command, row in commands:
        # Under ids of their own: the commands that these repeat may have come within the last two minutes.
        repeated = send_commands.outgoing_together([command], lane=row["lane"], partitions=partitions, scope=scope)
        await outbox.add(tx, list(repeated))
    return settled


async def forget(tx: Tx, each: Move) -> bool:
    """Take a tenant that moved back for one that never moved. False where it has moved since."""
    return await tx.execute(_FORGET, each.tenant_id, each.moved_at) == "DELETE 1"
