"""Sessions: opened by a log-in, carried on by refresh tokens that each work once, ended by logging out or by theft.

A refresh token is `<user>.<session>.<secret>` in base64url; only the hash of the whole is kept. Using one that was used
before ends the session, since one of its two users is a thief (RFC 9700, section 4.14). Within a few seconds it is
taken for a race between two tabs instead.
"""

import base64
import binascii
import hashlib
import secrets
import uuid
from dataclasses import dataclass
from datetime import timedelta

from kit import outbox
from kit.db import Row, Tx
from kit.ids import new_id
from svc_auth import events

RACE_SECONDS = 10

_SECRET_BYTES = 32

_OPEN = "INSERT INTO sessions (id, user_id, tenant_id) VALUES ($1, $2, $3)"
_KEEP_HASH = """
    INSERT INTO refresh_tokens (hash, session_id, user_id, expires_at) VALUES ($1, $2, $3, now() + $4::interval)
"""
_FIND = """
    SELECT s.id, s.user_id, s.tenant_id, s.revoked_at IS NOT NULL AS is_revoked,
           t.expires_at <= now() AS is_expired, t.used_at IS NOT NULL AS is_used,
           coalesce(t.used_at < now() - make_interval(secs => $2), false) AS is_reused
    FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id
    WHERE t.hash = $1 FOR UPDATE OF t, s
"""
_USE = "UPDATE refresh_tokens SET used_at = coalesce(used_at, now()) WHERE hash = $1"
_REVOKE = """
    UPDATE sessions SET revoked_at = now(), revoked_because = $2
    WHERE id = $1 AND revoked_at IS NULL RETURNING tenant_id, user_id
"""
_FORGET_EXPIRED = """
    DELETE FROM sessions s WHERE user_id = $1 AND NOT EXISTS
        (SELECT FROM refresh_tokens t WHERE t.session_id = s.id AND t.expires_at > now())
"""


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A presented token, taken apart. Nothing of it is proven yet."""

    user_id: uuid.UUID
    hash: bytes


def read_token(text: str) -> RefreshToken | None:
    """None where it has not the form of one."""
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii"))
    except (ValueError, binascii.Error):
        return None
    if len(raw) != 16 + 16 + _SECRET_BYTES:
        return None
    return RefreshToken(uuid.UUID(bytes=raw[:16]), hashlib.sha256(raw).digest())


async def open_session(tx: Tx, user_id: uuid.UUID, tenant_id: uuid.UUID | None) -> uuid.UUID:
    """Begin a session, and forget those of the user that no token can carry on any more."""
    await tx.execute(_FORGET_EXPIRED, user_id)
    session_id = new_id()
    await tx.execute(_OPEN, session_id, user_id, tenant_id)
    return session_id


async def issue_token(tx: Tx, user_id: uuid.UUID, session_id: uuid.UUID, life: timedelta) -> str:
    """A fresh refresh token of the session. Its text is told once and not kept."""
    raw = user_id.bytes + session_id.bytes + secrets.token_bytes(_SECRET_BYTES)
    await tx.execute(_KEEP_HASH, hashlib.sha256(raw).digest(), session_id, user_id, life)
    return base64.urlsafe_b64encode(raw).decode()


async def use_token(tx: Tx, token: RefreshToken) -> Row | None:
    """The session that the token carries on; None where it does not. A stolen one ends its session: commit that."""
    row = await tx.fetchrow(_FIND, token.hash, float(RACE_SECONDS))
    if row is None or row["is_revoked"] or row["is_expired"]:
        return None
    if row["is_reused"]:
        await revoke(tx, row["id"], because="token_reused")
        return None
    await tx.execute(_USE, token.hash)
    return row


async def find_by_token(tx: Tx, token: RefreshToken) -> uuid.UUID | None:
    """The session of a token, whatever became of it."""
    row = await tx.fetchrow(_FIND, token.hash, float(RACE_SECONDS))
    return row["id"] if row else None


async def revoke(tx: Tx, session_id: uuid.UUID, *, because: str) -> None:
    """End a session; its refresh tokens are worthless at once, its access tokens within their 15 minutes."""
    row = await tx.fetchrow(_REVOKE, session_id, because)
    if row is not None and row["tenant_id"] is not None:
        await outbox.add(tx, events.session_revoked(row["tenant_id"], row["user_id"], session_id, because))
