"""Erasing what a workspace had: contacts, conversations, messages, files, and what was set aside for its numbers.

First the workspace is marked. From then on the database refuses whatever somebody would add, however stale his memory;
then its rows go, those that refer to others first.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from kit import erasing
from kit.db import Database, Tx
from kit.erasing import Erased, Table
from kit.principal import Principal
from svc_messaging.errors import TenantDeleting

TABLES = (
    Table("send_requests", ("request_id",)),
    Table("reactions", ("message_id", "direction")),
    Table("wamids", ("phone_number_id", "wamid")),
    # A chunk holds a quarter of a megabyte.
    Table("media_chunks", ("media_id", "number"), rows=200),
    Table("media", ("id",)),
    Table("messages", ("id",)),
    Table("conversations", ("id",)),
    Table("contact_identities", ("kind", "value")),
    Table("contact_terms", ("contact_id", "term")),
    Table("contacts", ("id",)),
    Table("placements", ()),
)

_MARK = "INSERT INTO erased_tenants (id) VALUES ($1) ON CONFLICT DO NOTHING"
_MARK_NUMBERS = """
    INSERT INTO erased_numbers AS e (phone_number_id, had_until)
    SELECT * FROM unnest($1::text[], $2::timestamptz[])
    ON CONFLICT (phone_number_id) DO UPDATE SET had_until = greatest(e.had_until, EXCLUDED.had_until)
"""
_PARKED = """
    WITH chosen AS (
        SELECT p.id FROM unnest($1::text[], $2::timestamptz[], $3::bool[]) AS n (phone_number_id, until, taken)
        JOIN parked_events p USING (phone_number_id)
        WHERE p.reason <> 'erased_number' AND (p.received_at <= n.until OR NOT n.taken) LIMIT $4
    )
    DELETE FROM parked_events p USING chosen WHERE p.id = chosen.id
"""
_OUTBOX = "SELECT erase_from_outbox($1)"
_MARKED = """
    SELECT phone_number_id, NULL::uuid AS tenant_id, had_until FROM erased_numbers WHERE phone_number_id = ANY($1)
    UNION ALL
    SELECT NULL, id, NULL FROM erased_tenants WHERE id = ANY($2)
"""


@dataclass(frozen=True, slots=True)
class FormerNumber:
    """A number that the workspace had, until when, and whether somebody else has it now."""

    phone_number_id: str
    until: datetime
    taken: bool


async def erase(db: Database, principal: Principal, numbers: Sequence[FormerNumber], *, seconds: float) -> Erased:
    """Erase the rows of the principal's tenant and what was set aside for its numbers, for about so many seconds."""
    tenant_id = principal.require_tenant()
    async with db.begin(principal) as tx:
        await tx.execute(_MARK, tenant_id)
        ordered = sorted(numbers, key=lambda number: number.phone_number_id)
        await tx.execute(_MARK_NUMBERS, [each.phone_number_id for each in ordered], [each.until for each in ordered])
    erased = await erasing.erase(db, principal, TABLES, seconds=seconds)
    if erased.done:
        erased.add("parked_events", await _erase_parked(db, principal, ordered))
        async with db.begin(principal) as tx:
            erased.add("outbox", await tx.fetchval(_OUTBOX, tenant_id))
    return erased


async def marked(
    tx: Tx, numbers: Collection[str], tenants: Collection[uuid.UUID]
) -> tuple[dict[str, datetime], set[uuid.UUID]]:
    """Those of the numbers that erased workspaces had, with until when, and those of the workspaces that are erased."""
    rows = await tx.fetch(_MARKED, list(numbers), list(tenants))
    had = {row["phone_number_id"]: row["had_until"] for row in rows if row["phone_number_id"] is not None}
    return had, {row["tenant_id"] for row in rows if row["tenant_id"] is not None}


def as_app_error(error: BaseException) -> TenantDeleting | None:
    """What it means to a caller that the database takes nothing for a marked workspace any more."""
    if isinstance(error, asyncpg.InsufficientPrivilegeError) and "_not_erased" in str(error):
        return TenantDeleting()
    return None


async def _erase_parked(db: Database, principal: Principal, numbers: Sequence[FormerNumber]) -> int:
    """Parked events belong to no tenant, so nobody in one may touch them."""
    outside = Principal.service(principal.name)
    columns = (
        [each.phone_number_id for each in numbers],
        [each.until for each in numbers],
        [each.taken for each in numbers],
    )
    total, count = 0, erasing.ROWS
    while count == erasing.ROWS:
        async with db.begin(outside) as tx:
            count = int((await tx.execute(_PARKED, *columns, erasing.ROWS)).rpartition(" ")[2])
        total += count
    return total
