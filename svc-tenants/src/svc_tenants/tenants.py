"""Tenants: the companies of this installation, called workspaces where people read it."""

import re
import secrets
import unicodedata
import uuid
from collections.abc import Sequence

from kit.db import Row, Tx
from kit.pages import Page
from kit.principal import Principal
from svc_tenants import audit, events
from svc_tenants.errors import (
    TenantAlreadySuspended,
    TenantDeleting,
    TenantNotFound,
    TenantNotSuspended,
    TenantSuspended,
)

_SLUG_MAX = 40
_SLUG_MIN = 3
# Without vowels a suffix spells nothing.
_SUFFIX_LETTERS = "bcdfghjkmnpqrstvwxz23456789"
_SUFFIX_LENGTH = 4
_SLUG_ATTEMPTS = 20


async def create(tx: Tx, principal: Principal, *, display_name: str, slug: str) -> Row:
    """Create the tenant that the principal acts for. A repeated call gives the tenant that the first one made.

    Raises TenantDeleting: an id is not used again, so that no late repetition brings an erased tenant back.
    """
    tenant_id = principal.require_tenant()
    display_name = display_name.strip()
    if await tx.fetchval("SELECT true FROM tenant_erasures WHERE tenant_id = $1", tenant_id):
        raise TenantDeleting
    if existing := await _find(tx, tenant_id):
        return existing
    for candidate in _slugs(slug or slug_of(display_name)):
        # Both the id and the slug may be taken, at this moment too; whose slug it is does not matter.
        row = await tx.fetchrow(
            "INSERT INTO tenants (id, slug, display_name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING *",
            tenant_id,
            candidate,
            display_name,
        )
        if row is not None:
            await audit.record(tx, principal, "tenant.created", f"tenants/{tenant_id}", slug=candidate)
            await events.tenant(tx, "created", row)
            return row
        if existing := await _find(tx, tenant_id):
            return existing
    raise AssertionError("no slug was free among random ones")


async def get(tx: Tx, tenant_id: uuid.UUID) -> Row:
    """The tenant that the transaction acts for. Raises TenantNotFound."""
    if (row := await _find(tx, tenant_id)) is None:
        raise TenantNotFound(tenant_id)
    return row


async def list_page(tx: Tx, page: Page, *, state: str) -> list[Row]:
    """Tenants of the installation, newest first; one more than the page holds when there is a next one."""
    cursor = page.cursor or {"create_time": None, "id": None}
    return await tx.fetch(
        "SELECT * FROM list_tenants($1, $2, $3, $4)", state, cursor["create_time"], cursor["id"], page.size + 1
    )


async def states(tx: Tx, tenant_ids: Sequence[uuid.UUID]) -> list[Row]:
    """tenant_id, state and display_name of those that exist."""
    return await tx.fetch("SELECT * FROM tenant_states($1)", list(tenant_ids))


async def suspend(tx: Tx, principal: Principal, *, reason: str) -> Row:
    """Stop the tenant's people and its sending. Raises TenantNotFound, TenantDeleting and
    TenantAlreadySuspended.
    """
    tenant_id = principal.require_tenant()
    row = await _change_state(tx, tenant_id, "suspended", reason.strip())
    if row is None:
        await _refuse_deleting(tx, tenant_id)
        raise TenantAlreadySuspended
    await audit.record(tx, principal, "tenant.suspended", f"tenants/{tenant_id}", reason=row["suspension_reason"])
    await events.tenant(tx, "suspended", row)
    return row


async def resume(tx: Tx, principal: Principal) -> Row:
    """Let a suspended tenant work again. Raises TenantNotFound, TenantDeleting and TenantNotSuspended."""
    tenant_id = principal.require_tenant()
    row = await _change_state(tx, tenant_id, "active", "")
    if row is None:
        await _refuse_deleting(tx, tenant_id)
        raise TenantNotSuspended
    await audit.record(tx, principal, "tenant.resumed", f"tenants/{tenant_id}")
    await events.tenant(tx, "resumed", row)
    return row


async def require_active(tx: Tx, tenant_id: uuid.UUID) -> None:
    """Hold the tenant active until the transaction ends. Raises TenantNotFound, TenantDeleting and TenantSuspended."""
    row = await tx.fetchrow("SELECT state, suspension_reason FROM tenants WHERE id = $1 FOR SHARE", tenant_id)
    if row is None:
        raise TenantNotFound(tenant_id)
    if row["state"] == "deleting":
        raise TenantDeleting
    if row["state"] == "suspended":
        raise TenantSuspended(row["suspension_reason"])


def slug_of(display_name: str) -> str:
    """A slug that resembles the name: ASCII letters, digits and hyphens, beginning with a letter."""
    ascii_name = unicodedata.normalize("NFKD", display_name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")
    if not slug:
        return "workspace"
    if len(slug) < _SLUG_MIN or not slug[0].isalpha():
        slug = f"workspace-{slug}"
    return slug[:_SLUG_MAX].rstrip("-")


def _slugs(wanted: str) -> list[str]:
    """The wanted slug, then others like it."""
    stem = wanted[: _SLUG_MAX - _SUFFIX_LENGTH - 1].rstrip("-")
    return [wanted, *(f"{stem}-{_suffix()}" for _ in range(_SLUG_ATTEMPTS))]


def _suffix() -> str:
    return "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(_SUFFIX_LENGTH))


async def _find(tx: Tx, tenant_id: uuid.UUID) -> Row | None:
    return await tx.fetchrow("SELECT * FROM tenants WHERE id = $1", tenant_id)


async def _refuse_deleting(tx: Tx, tenant_id: uuid.UUID) -> None:
    if (await get(tx, tenant_id))["state"] == "deleting":
        raise TenantDeleting


async def _change_state(tx: Tx, tenant_id: uuid.UUID, state: str, reason: str) -> Row | None:
    """None where the tenant is missing, being erased, or in that state already."""
    return await tx.fetchrow(
        "UPDATE tenants SET state = $2, suspension_reason = $3, updated_at = now()"
        " WHERE id = $1 AND state NOT IN ($2, 'deleting') RETURNING *",
        tenant_id,
        state,
        reason,
    )
