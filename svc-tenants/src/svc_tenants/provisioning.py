"""Tenants as somebody outside describes them: made so in one transaction, and told all at once."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from kit.db import Row, Tx
from kit.pages import Page
from kit.principal import Principal
from svc_tenants import audit, events, tenants
from svc_tenants.errors import SlugTaken, TenantDeleting
from svc_tenants.usage import Month

_NUMBERS = "SELECT * FROM number_records($1, $2, $3)"
_RECORDS = "SELECT * FROM tenant_records($1, $2, $3) AS r CROSS JOIN LATERAL usage_between(r.id, $4, $5)"
_SLUGS_MAX = 500


@dataclass(frozen=True, slots=True)
class Described:
    """What a tenant shall be. None: as it is."""

    slug: str
    display_name: str | None = None
    isolation: str | None = None
    suspended: bool | None = None
    suspension_reason: str = ""


async def list_page(tx: Tx, page: Page, month: Month) -> list[Row]:
    """Records of all tenants with their usage of a month; one more than the page holds when there is a next one."""
    after = page.cursor["id"] if page.cursor else None
    return await tx.fetch(_RECORDS, None, after, page.size + 1, month.first, month.last)


async def by_slugs(tx: Tx, slugs: Sequence[str], month: Month) -> list[Row]:
    """Records of those that exist, with their usage of a month."""
    return await tx.fetch(_RECORDS, list(slugs), None, _SLUGS_MAX, month.first, month.last)


async def list_numbers(tx: Tx, page: Page) -> list[Row]:
    """Connected numbers of all tenants; one more than the page holds when there is a next one."""
    after = page.cursor or {"tenant": None, "id": None}
    return await tx.fetch(_NUMBERS, after["tenant"], after["id"], page.size + 1)


async def apply(tx: Tx, principal: Principal, described: Described) -> Row:
    """Make the principal's tenant be as described, creating it first where it is missing. Raises SlugTaken and
    TenantDeleting.
    """
    tenant_id = principal.require_tenant()
    row = await _find_or_create(tx, principal, tenant_id, described)
    wanted_name = (described.display_name or row["display_name"]).strip()
    if wanted_name != row["display_name"]:
        row = await _rename(tx, principal, tenant_id, wanted_name)
    if described.isolation not in (None, row["isolation"]):
        row = await _place(tx, principal, tenant_id, described.isolation)
    is_suspended = row["state"] == "suspended"
    if described.suspended and not is_suspended:
        return await tenants.suspend(tx, principal, reason=described.suspension_reason)
    if described.suspended is False and is_suspended:
        return await tenants.resume(tx, principal)
    return row


async def _find_or_create(tx: Tx, principal: Principal, tenant_id: uuid.UUID, described: Described) -> Row:
    # Locked: of two calls at once the second sees what the first has made.
    found = await tx.fetchrow("SELECT * FROM tenants WHERE id = $1 FOR UPDATE", tenant_id)
    if found is None:
        display_name = described.display_name or described.slug
        found = await tenants.create(tx, principal, display_name=display_name, slug=described.slug)
    if found["slug"] != described.slug:
        raise SlugTaken(described.slug)
    if found["state"] == "deleting":
        raise TenantDeleting
    return found


async def _rename(tx: Tx, principal: Principal, tenant_id: uuid.UUID, display_name: str) -> Row:
    row = await tx.fetchrow(
        "UPDATE tenants SET display_name = $2, updated_at = now() WHERE id = $1 RETURNING *", tenant_id, display_name
    )
    assert row is not None
    await audit.record(tx, principal, "tenant.renamed", f"tenants/{tenant_id}", displayName=display_name)
    await events.tenant(tx, "renamed", row)
    return row


async def _place(tx: Tx, principal: Principal, tenant_id: uuid.UUID, isolation: str) -> Row:
    row = await tx.fetchrow(
        "UPDATE tenants SET isolation = $2, updated_at = now() WHERE id = $1 RETURNING *", tenant_id, isolation
    )
    assert row is not None
    await audit.record(tx, principal, "tenant.placed", f"tenants/{tenant_id}", isolation=isolation)
    await events.tenant(tx, "placed", row)
    return row
