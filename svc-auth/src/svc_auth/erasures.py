"""Erasing a workspace's people: its sessions end at once, its members leave, and who is a member of no other workspace
is erased with e-mail and password. First the workspace is marked, so that nobody joins or enters it meanwhile.
"""

import time

import asyncpg

from kit import outbox
from kit.db import Database, Tx
from kit.erasing import Erased
from kit.principal import Principal
from svc_auth import events
from svc_auth.errors import TenantDeleting

_ROWS = 200

_MARK = "INSERT INTO erased_tenants (id) VALUES ($1) ON CONFLICT DO NOTHING"
_SESSIONS = """
    DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE tenant_id = $1 ORDER BY id LIMIT $2)
    RETURNING id, user_id
"""
# Locked before they leave: of two workspaces that are erased at once, the second to lock sees that the first has gone.
_MEMBERS = """
    SELECT id FROM users WHERE id IN (SELECT user_id FROM memberships WHERE tenant_id = $1 ORDER BY user_id LIMIT $2)
    ORDER BY id FOR UPDATE
"""
_LEAVE = "DELETE FROM memberships WHERE tenant_id = $1 AND user_id = ANY($2)"
_ERASE_USERS = "SELECT erase_users($1)"
_INVITATIONS = "DELETE FROM invitations WHERE tenant_id = $1"
_REGISTRATION = "SELECT erase_registration($1)"
# The events of the sessions that ended stay: they tell the browsers to go, and name nobody but by id.
_OUTBOX = """
    DELETE FROM outbox WHERE subject LIKE 'events.%' AND right(subject, 37) = '.' || $1::uuid
        AND subject NOT LIKE 'events.auth.session.revoked.%'
"""


async def erase(db: Database, principal: Principal, *, seconds: float) -> Erased:
    """Erase the people of the principal's tenant, for about so many seconds."""
    tenant_id = principal.require_tenant()
    async with db.begin(principal) as tx:
        await tx.execute(_MARK, tenant_id)
    erased, until = Erased(), time.monotonic() + seconds
    for erase_some in (_erase_sessions, _erase_members):
        count = _ROWS
        while count == _ROWS:
            if time.monotonic() > until:
                return erased
            async with db.begin(principal) as tx:
                count = await erase_some(tx, principal, erased)
    async with db.begin(principal) as tx:
        erased.add("invitations", _rows(await tx.execute(_INVITATIONS, tenant_id)))
        erased.add("registrations", await tx.fetchval(_REGISTRATION, tenant_id))
        erased.add("outbox", _rows(await tx.execute(_OUTBOX, tenant_id)))
    erased.done = True
    return erased


def as_app_error(error: BaseException) -> TenantDeleting | None:
    """What it means to a caller that the database takes nothing for a marked workspace any more."""
    if isinstance(error, asyncpg.InsufficientPrivilegeError) and "_not_erased" in str(error):
        return TenantDeleting()
    return None


async def _erase_sessions(tx: Tx, principal: Principal, erased: Erased) -> int:
    tenant_id = principal.require_tenant()
    rows = await tx.fetch(_SESSIONS, tenant_id, _ROWS)
    for row in rows:
        await outbox.add(tx, events.session_revoked(tenant_id, row["user_id"], row["id"], "tenant_erased"))
    erased.add("sessions", len(rows))
    return len(rows)


async def _erase_members(tx: Tx, principal: Principal, erased: Erased) -> int:
    tenant_id = principal.require_tenant()
    users = [row["id"] for row in await tx.fetch(_MEMBERS, tenant_id, _ROWS)]
    erased.add("memberships", _rows(await tx.execute(_LEAVE, tenant_id, users)))
    erased.add("users", await tx.fetchval(_ERASE_USERS, users))
    return len(users)


def _rows(tag: str) -> int:
    """Of a command tag, such as "DELETE 3"."""
    return int(tag.rpartition(" ")[2])
