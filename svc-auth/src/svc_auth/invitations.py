"""Invitations: how a workspace that nobody registered gets its first admin.

A token is `<tenant><secret>` in base64url and works once; only the hash of the whole is kept, so that it can be told
again by nobody. It names its tenant, so that row-level security shows that tenant's invitation and no other.
"""

import base64
import binascii
import hashlib
import secrets
import uuid
from collections.abc import Sequence
from datetime import timedelta

from kit import outbox
from kit.db import Row, Tx
from svc_auth import events, users
from svc_auth.errors import EmailTaken, InvitationInvalid

LIFE = timedelta(days=7)

_SECRET_BYTES = 32

_FIRST_ADMINS = "SELECT * FROM first_admins($1)"
_INVITE = """
    INSERT INTO invitations (tenant_id, email, token_hash, expires_at) VALUES ($1, $2, $3, now() + $4::interval)
    ON CONFLICT (tenant_id) DO UPDATE SET
        email = excluded.email, token_hash = excluded.token_hash, created_at = now(), expires_at = excluded.expires_at
"""
_TAKE = "DELETE FROM invitations WHERE tenant_id = $1 AND token_hash = $2 AND expires_at > now() RETURNING email"
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_JOIN = "INSERT INTO memberships (tenant_id, user_id, role) VALUES ($1, $2, 'admin') ON CONFLICT DO NOTHING"
_FORGET = "DELETE FROM invitations WHERE tenant_id = $1"


async def first_admins(tx: Tx, tenant_ids: Sequence[uuid.UUID]) -> list[Row]:
    """tenant_id, email, state and expires_at of those that were invited or have joined."""
    return await tx.fetch(_FIRST_ADMINS, list(tenant_ids))


async def invite(tx: Tx, tenant_id: uuid.UUID, email: str) -> tuple[Row, str]:
    """The first admin of the tenant, and the token where it is one who must still accept."""
    # Of two calls at once the second sees what the first has made.
    await tx.execute(_LOCK, f"first admin of {tenant_id}")
    [*found] = await first_admins(tx, [tenant_id])
    if found and found[0]["state"] == "joined":
        return found[0], ""
    token = ""
    user = await users.find_by_email(tx, email)
    if user is not None:
        await tx.execute(_JOIN, tenant_id, user["id"])
        await tx.execute(_FORGET, tenant_id)
        await outbox.add(tx, events.member_added(tenant_id, user["id"], "admin"))
    else:
        raw = tenant_id.bytes + secrets.token_bytes(_SECRET_BYTES)
        await tx.execute(_INVITE, tenant_id, email, hashlib.sha256(raw).digest(), LIFE)
        token = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    [admin] = await first_admins(tx, [tenant_id])
    return admin, token


def tenant_of(token: str) -> uuid.UUID:
    """The tenant that a token names; nothing of it is proven yet. Raises InvitationInvalid."""
    return uuid.UUID(bytes=_raw(token)[:16])


async def accept(tx: Tx, token: str, *, name: str, password_hash: str) -> Row:
    """Make the invited person the tenant's admin; the token is used up. Raises InvitationInvalid and EmailTaken."""
    raw = _raw(token)
    tenant_id = uuid.UUID(bytes=raw[:16])
    email = await tx.fetchval(_TAKE, tenant_id, hashlib.sha256(raw).digest())
    if email is None:
        raise InvitationInvalid
    if await users.find_by_email(tx, email) is not None:
        # Registered meanwhile: the password of an account is not set by somebody's link.
        raise EmailTaken
    return await users.add_member(tx, tenant_id, email=email, name=name, password_hash=password_hash, role="admin")


def _raw(token: str) -> bytes:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise InvitationInvalid from error
    if len(raw) != 16 + _SECRET_BYTES:
        raise InvitationInvalid
    return raw
