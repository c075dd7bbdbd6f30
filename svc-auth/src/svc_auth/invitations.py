"""Invitations: how a workspace that nobody registered gets its first admin.

A token is `<tenant><secret>` in base64url and works once; only the hash of the whole is kept, so that it can be told
again by nobody. It names its tenant, so that row-level security shows that tenant's invitation and no other.

Nobody's e-mail is verified when he registers, so an account with the invited e-mail proves nothing: whoever accepts
always shows the token, and the account's password too where there is an account. Whose e-mail was registered by a
stranger is invited again with another one.
"""

import base64
import binascii
import hashlib
import secrets
import uuid
from collections.abc import Sequence
from datetime import timedelta

from kit.db import Row, Tx
from svc_auth import users
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
_FIND = "SELECT email FROM invitations WHERE tenant_id = $1 AND token_hash = $2 AND expires_at > now()"
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"


async def first_admins(tx: Tx, tenant_ids: Sequence[uuid.UUID]) -> list[Row]:
    """tenant_id, email, state and expires_at of those that were invited or have joined."""
    return await tx.fetch(_FIRST_ADMINS, list(tenant_ids))


async def invite(tx: Tx, tenant_id: uuid.UUID, email: str) -> tuple[Row, str]:
    """The first admin of the tenant, and the token where nobody has joined yet."""
    # Of two calls at once the second sees what the first has made.
    await tx.execute(_LOCK, f"first admin of {tenant_id}")
    [*found] = await first_admins(tx, [tenant_id])
    if found and found[0]["state"] == "joined":
        return found[0], ""
    raw = tenant_id.bytes + secrets.token_bytes(_SECRET_BYTES)
    await tx.execute(_INVITE, tenant_id, email, hashlib.sha256(raw).digest(), LIFE)
    [admin] = await first_admins(tx, [tenant_id])
    return admin, base64.urlsafe_b64encode(raw).decode().rstrip("=")


def tenant_of(token: str) -> uuid.UUID:
    """The tenant that a token names; nothing of it is proven yet. Raises InvitationInvalid."""
    return uuid.UUID(bytes=_raw(token)[:16])


async def email_of(tx: Tx, token: str) -> str:
    """Who is invited by the token, which is proven by that. Raises InvitationInvalid."""
    return await _email(tx, _FIND, token)


async def accept(tx: Tx, token: str, *, name: str, password_hash: str) -> Row:
    """Make a new account the tenant's admin; the token is used up. Raises InvitationInvalid and EmailTaken."""
    email = await _email(tx, _TAKE, token)
    if await users.find_by_email(tx, email) is not None:
        # Registered meanwhile: the password of an account is not set by somebody's link.
        raise EmailTaken
    return await users.add_member(
        tx, tenant_of(token), email=email, name=name, password_hash=password_hash, role="admin"
    )


async def accept_as(tx: Tx, token: str, user: Row) -> None:
    """Make the account, whose password was shown, the tenant's admin; the token is used up.

    Raises InvitationInvalid and MemberExists.
    """
    if await _email(tx, _TAKE, token) != user["email"]:
        raise InvitationInvalid
    await users.join(tx, tenant_of(token), user["id"], "admin")


async def _email(tx: Tx, query: str, token: str) -> str:
    raw = _raw(token)
    email: str | None = await tx.fetchval(query, uuid.UUID(bytes=raw[:16]), hashlib.sha256(raw).digest())
    if email is None:
        raise InvitationInvalid
    return email


def _raw(token: str) -> bytes:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise InvitationInvalid from error
    if len(raw) != 16 + _SECRET_BYTES:
        raise InvitationInvalid
    return raw
