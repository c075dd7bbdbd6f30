"""Signing up and in: the flows that reach over users, sessions, registrations and svc-tenants.

Each step is one transaction; svc-tenants is asked between them, never inside one.
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta

from kit.crypto import KeyRing
from kit.db import Database, Row, Tx
from kit.principal import Principal
from kit.tokens import AccessTokenSigner
from svc_auth import registrations, sessions, signing_keys, throttle, users
from svc_auth.errors import CredentialsWrong, EmailTaken, NotAMember, RefreshTokenInvalid
from svc_auth.passwords import Passwords
from svc_auth.workspaces import Workspace, Workspaces

SELF = Principal.service("svc-auth")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session's new tokens, and whose they are."""

    user: Row
    workspace: Workspace | None
    role: str
    access_token: str
    refresh_token: str


@dataclass(frozen=True, slots=True)
class Parts:
    """What the flows work with."""

    db: Database
    ring: KeyRing
    passwords: Passwords
    workspaces: Workspaces
    session_life: timedelta


async def register(parts: Parts, *, email: str, password: str, name: str, workspace_name: str) -> SignedIn:
    """Create a workspace with its first admin. Carries on a registration of the same e-mail and password."""
    email = users.normalized(email)
    async with parts.db.begin(SELF) as tx:
        pending = await registrations.find_pending(tx, email)
        if pending is None and await users.find_by_email(tx, email) is not None:
            raise EmailTaken
    if pending is None:
        password_hash = await parts.passwords.hash(password)
        async with parts.db.begin(SELF) as tx:
            pending = await registrations.begin(
                tx, email=email, name=name, password_hash=password_hash, workspace_name=workspace_name
            )
    elif not await parts.passwords.matches(password, pending["password_hash"]):
        raise EmailTaken
    user = await finish_registration(parts, pending)
    return await _open(parts, user, tenant_id=pending["id"], role="admin")


async def finish_registration(parts: Parts, registration: Row) -> Row:
    """Take the remaining steps; each may have been taken before. Gives the user."""
    await parts.workspaces.create(registration["id"], registration["workspace_name"])
    async with parts.db.begin(SELF.on_behalf_of(registration["id"])) as tx:
        return await registrations.complete(tx, registration["id"])


async def log_in(parts: Parts, *, email: str, password: str, tenant_id: uuid.UUID | None, address: str) -> SignedIn:
    """Check the password and open a session in the named workspace, or in the one entered last."""
    email = users.normalized(email)
    async with parts.db.begin(SELF) as tx:
        await throttle.require_free(tx, email, address)
        user = await users.find_by_email(tx, email)
        pending = None if user else await registrations.find_pending(tx, email)
    kept = user or pending
    if not await parts.passwords.matches(password, kept["password_hash"] if kept else None):
        async with parts.db.begin(SELF) as tx:
            await throttle.count_failure(tx, email, address)
        raise CredentialsWrong
    if user is None:
        assert pending is not None
        user = await finish_registration(parts, pending)
    async with parts.db.begin(SELF) as tx:
        await throttle.forgive(tx, email)
    tenant_id, role = await _choose(parts, user, tenant_id)
    return await _open(parts, user, tenant_id=tenant_id, role=role)


async def refresh(parts: Parts, *, refresh_token: str) -> SignedIn:
    """Exchange a refresh token for new tokens. A stolen one ends its session."""
    token = sessions.read_token(refresh_token)
    if token is None:
        raise RefreshTokenInvalid
    # The token names its user, so row-level security shows that user's sessions; the hash proves the rest.
    async with parts.db.begin(_as_user(token.user_id)) as tx:
        session = await sessions.use_token(tx, token)
    if session is None:
        raise RefreshTokenInvalid
    tenant_id, user_id = session["tenant_id"], session["user_id"]
    workspace = await parts.workspaces.require_active(tenant_id) if tenant_id else None
    async with parts.db.begin(_as_user(user_id)) as tx:
        user = await users.get(tx, user_id)
        role = await _role_in(tx, user, tenant_id) if user else None
        if user is None or role is None:
            raise RefreshTokenInvalid
        next_token = await sessions.issue_token(tx, user_id, session["id"], parts.session_life)
        key = await signing_keys.current(tx, parts.ring)
    access = _access_token(key, user_id=user_id, role=role, tenant_id=tenant_id, session_id=session["id"])
    return SignedIn(user, workspace, role, access, next_token)


async def log_out(parts: Parts, *, refresh_token: str, caller: Principal) -> None:
    """End the session of the token, or of the caller where there is none. Unknown tokens end nothing and succeed."""
    token = sessions.read_token(refresh_token) if refresh_token else None
    user_id = token.user_id if token else caller.user_id
    if user_id is None:
        return
    async with parts.db.begin(_as_user(user_id)) as tx:
        session_id = await sessions.find_by_token(tx, token) if token else caller.session_id
        if session_id is not None:
            await sessions.revoke(tx, session_id, because="logged_out")


async def _choose(parts: Parts, user: Row, wanted: uuid.UUID | None) -> tuple[uuid.UUID | None, str]:
    """The workspace to enter, and the role in it. Super admins are in none unless they name one."""
    async with parts.db.begin(_as_user(user["id"])) as tx:
        memberships = await users.memberships(tx, user["id"])
    if wanted is None and user["is_super_admin"]:
        return None, "super_admin"
    for membership in memberships:
        if wanted in {None, membership["tenant_id"]}:
            return membership["tenant_id"], membership["role"]
    raise NotAMember


async def _open(parts: Parts, user: Row, *, tenant_id: uuid.UUID | None, role: str) -> SignedIn:
    workspace = await parts.workspaces.require_active(tenant_id) if tenant_id else None
    async with parts.db.begin(_as_user(user["id"])) as tx:
        if tenant_id:
            await users.enter(tx, tenant_id, user["id"])
        session_id = await sessions.open_session(tx, user["id"], tenant_id)
        refresh_token = await sessions.issue_token(tx, user["id"], session_id, parts.session_life)
        key = await signing_keys.current(tx, parts.ring)
    access = _access_token(key, user_id=user["id"], role=role, tenant_id=tenant_id, session_id=session_id)
    return SignedIn(user, workspace, role, access, refresh_token)


async def _role_in(tx: Tx, user: Row, tenant_id: uuid.UUID | None) -> str | None:
    """The role now: it may have changed, or ended, since the session began."""
    if tenant_id is None:
        return "super_admin" if user["is_super_admin"] else None
    roles = {membership["tenant_id"]: membership["role"] for membership in await users.memberships(tx, user["id"])}
    return roles.get(tenant_id)


def _access_token(
    key: signing_keys.SigningKey, *, user_id: uuid.UUID, role: str, tenant_id: uuid.UUID | None, session_id: uuid.UUID
) -> str:
    principal = Principal.user(user_id=user_id, role=role, tenant_id=tenant_id, session_id=session_id)
    return AccessTokenSigner(key.kid, key.seed).sign(principal)


def _as_user(user_id: uuid.UUID) -> Principal:
    """Rows of this user become visible; of no tenant."""
    return Principal.user(user_id=user_id, role="")
