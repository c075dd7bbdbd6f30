"""Erasures of tenants: asked for, carried on step by step, and kept as a record when the tenant is gone."""

import json
import uuid
from collections.abc import Mapping

from kit.db import Row, Tx
from kit.pages import Page
from kit.principal import Principal
from svc_tenants import audit, events
from svc_tenants.convert import ERASURE_STEPS
from svc_tenants.errors import SlugNotConfirmed, TenantErasureNotFound, TenantNotFound

_FIND = "SELECT * FROM tenant_erasures WHERE tenant_id = $1"
_BEGIN = "INSERT INTO tenant_erasures (tenant_id, slug, requester) VALUES ($1, $2, $3) RETURNING *"
_LIST = """
    SELECT * FROM tenant_erasures
    WHERE ($1 = '' OR ($1 = 'done') = (done_at IS NOT NULL))
      AND ($2::timestamptz IS NULL OR (requested_at, tenant_id) < ($2, $3))
    ORDER BY requested_at DESC, tenant_id DESC LIMIT $4
"""
_OPEN = """
    SELECT *, extract(epoch FROM now() - progressed_at)::float AS idle_seconds FROM tenant_erasures
    WHERE done_at IS NULL ORDER BY requested_at
"""
# Numbers are added, never replaced: a repeated step knows less than the first.
_NOTE = """
    UPDATE tenant_erasures e SET
        erased = (
            SELECT coalesce(jsonb_object_agg(sort, count), '{}') FROM (
                SELECT sort, sum(count) FROM (
                    SELECT key, value::bigint FROM jsonb_each_text(e.erased)
                    UNION ALL SELECT key, value::bigint FROM jsonb_each_text($2::jsonb)
                ) AS noted (sort, count) GROUP BY sort
            ) AS summed (sort, count)
        ),
        last_error = '',
        progressed_at = now()
    WHERE tenant_id = $1
"""
_ADVANCE = """
    UPDATE tenant_erasures SET step = $3, last_error = '', progressed_at = now() WHERE tenant_id = $1 AND step = $2
"""
_FINISH = """
    UPDATE tenant_erasures SET step = 'done', last_error = '', progressed_at = now(), done_at = now()
    WHERE tenant_id = $1 AND step = 'tenant'
"""
_FAILED = "UPDATE tenant_erasures SET last_error = $2 WHERE tenant_id = $1 AND last_error <> $2"


async def begin(tx: Tx, principal: Principal, *, confirm_slug: str) -> Row:
    """Have the principal's tenant erased; a repeated call gives the erasure that the first one began.

    Raises TenantNotFound and SlugNotConfirmed.
    """
    tenant_id = principal.require_tenant()
    # Locked: of two calls at once the second sees what the first has begun.
    tenant = await tx.fetchrow("SELECT * FROM tenants WHERE id = $1 FOR UPDATE", tenant_id)
    begun = await find(tx, tenant_id)
    slug = (tenant or begun or {"slug": None})["slug"]
    if slug is None:
        raise TenantNotFound(tenant_id)
    if slug != confirm_slug:
        raise SlugNotConfirmed(confirm_slug)
    if begun is not None:
        return begun
    row = await tx.fetchrow(
        "UPDATE tenants SET state = 'deleting', suspension_reason = '', updated_at = now() WHERE id = $1 RETURNING *",
        tenant_id,
    )
    erasure = await tx.fetchrow(_BEGIN, tenant_id, slug, str(principal.user_id or principal.name))
    assert row is not None
    assert erasure is not None
    await audit.record(tx, principal, "tenant.deleting", f"tenants/{tenant_id}")
    await events.tenant(tx, "deleting", row)
    return erasure


async def find(tx: Tx, tenant_id: uuid.UUID) -> Row | None:
    """The erasure of a tenant, under way or done."""
    return await tx.fetchrow(_FIND, tenant_id)


async def get(tx: Tx, tenant_id: uuid.UUID) -> Row:
    """As `find`. Raises TenantErasureNotFound."""
    if (row := await find(tx, tenant_id)) is None:
        raise TenantErasureNotFound(tenant_id)
    return row


async def list_page(tx: Tx, page: Page, *, state: str) -> list[Row]:
    """Erasures of the installation, newest first; one more than the page holds when there is a next one."""
    cursor = page.cursor or {"request_time": None, "id": None}
    return await tx.fetch(_LIST, state, cursor["request_time"], cursor["id"], page.size + 1)


async def open_ones(tx: Tx) -> list[Row]:
    """Those that are not done, the oldest first; for callers in no tenant."""
    return await tx.fetch(_OPEN)


async def note(tx: Tx, tenant_id: uuid.UUID, erased: Mapping[str, int]) -> None:
    """Add to what was erased."""
    counts = {sort: count for sort, count in erased.items() if count}
    if counts:
        await tx.execute(_NOTE, tenant_id, json.dumps(counts))


async def advance(tx: Tx, tenant_id: uuid.UUID, step: str) -> None:
    """The step is done; the next one comes."""
    await tx.execute(_ADVANCE, tenant_id, step, ERASURE_STEPS[ERASURE_STEPS.index(step) + 1])


async def finish(tx: Tx, tenant_id: uuid.UUID) -> None:
    """Delete the tenant, of which nothing else is left; its erasure is done."""
    await tx.execute("DELETE FROM tenants WHERE id = $1", tenant_id)
    await tx.execute(_FINISH, tenant_id)


async def fail(tx: Tx, tenant_id: uuid.UUID, error: str) -> None:
    """Say why the step did not succeed this time."""
    await tx.execute(_FAILED, tenant_id, error[:500])
