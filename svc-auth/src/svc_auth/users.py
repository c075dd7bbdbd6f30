"""People and their memberships."""

import uuid

import asyncpg

from kit import outbox
from kit.db import Row, Tx, violated
from kit.ids import new_id
from svc_auth import events
from svc_auth.errors import EmailTaken, MemberExists

_BY_EMAIL = "SELECT id, email, name, password_hash, is_super_admin, created_at FROM users WHERE email = $1"
_BY_ID = "SELECT id, email, name, password_hash, is_super_admin, created_at FROM users WHERE id = $1"
_INSERT = """
    INSERT INTO users (id, email, name, password_hash, is_super_admin) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (email) DO NOTHING
"""
_JOIN = "INSERT INTO memberships (tenant_id, user_id, role) VALUES ($1, $2, $3)"
_MEMBERSHIPS = "SELECT tenant_id, role FROM memberships WHERE user_id = $1 ORDER BY entered_at DESC"
_ENTER = "UPDATE memberships SET entered_at = now() WHERE tenant_id = $1 AND user_id = $2"
_MEMBERS = """
    SELECT u.id, u.email, u.name, m.role, m.created_at
    FROM memberships m JOIN users u ON u.id = m.user_id
    WHERE m.tenant_id = $1 AND (u.name, u.id) > ($2, $3)
    ORDER BY u.name, u.id LIMIT $4
"""
_PROMOTE = "UPDATE users SET is_super_admin = true, password_hash = $2, name = $3 WHERE email = $1"

_FIRST = ("", uuid.UUID(int=0))


def normalized(email: str) -> str:
    """E-mails are told apart without regard to case."""
    return email.strip().lower()


async def find_by_email(tx: Tx, email: str) -> Row | None:
    return await tx.fetchrow(_BY_EMAIL, email)


async def get(tx: Tx, user_id: uuid.UUID) -> Row | None:
    return await tx.fetchrow(_BY_ID, user_id)


async def add_first_admin(tx: Tx, registration: Row) -> Row:
    """Make the user of a registration, and admin of its tenant. Repeating it changes nothing."""
    values = (registration["user_id"], registration["email"], registration["name"], registration["password_hash"])
    await tx.execute(_INSERT, *values, False)
    user = await find_by_email(tx, registration["email"])
    assert user is not None
    if user["id"] != registration["user_id"]:
        # An admin of another workspace added this person while the registration was pending.
        raise EmailTaken
    await tx.execute(f"{_JOIN} ON CONFLICT DO NOTHING", registration["id"], user["id"], "admin")
    return user


async def add_member(tx: Tx, tenant_id: uuid.UUID, *, email: str, name: str, password_hash: str, role: str) -> Row:
    """Add a person to a workspace; somebody who has an account keeps his name and password."""
    await tx.execute(_INSERT, new_id(), email, name, password_hash, False)
    user = await find_by_email(tx, email)
    assert user is not None
    await join(tx, tenant_id, user["id"], role)
    return user


async def join(tx: Tx, tenant_id: uuid.UUID, user_id: uuid.UUID, role: str) -> None:
    """Make an account a member of a workspace. Raises MemberExists."""
    try:
        await tx.execute(_JOIN, tenant_id, user_id, role)
    except asyncpg.exceptions.UniqueViolationError as error:
        if violated(error, "memberships_pkey"):
            raise MemberExists from error
        raise
    await outbox.add(tx, events.member_added(tenant_id, user_id, role))


async def list_members(tx: Tx, tenant_id: uuid.UUID, *, after: tuple[str, uuid.UUID] | None, most: int) -> list[Row]:
    """Members by name."""
    return await tx.fetch(_MEMBERS, tenant_id, *(after or _FIRST), most)


async def memberships(tx: Tx, user_id: uuid.UUID) -> list[Row]:
    """The workspaces of a user, the one entered last first."""
    return await tx.fetch(_MEMBERSHIPS, user_id)


async def enter(tx: Tx, tenant_id: uuid.UUID, user_id: uuid.UUID) -> None:
    """Remember which workspace the user was in last."""
    await tx.execute(_ENTER, tenant_id, user_id)


async def make_super_admin(tx: Tx, *, email: str, name: str, password_hash: str) -> None:
    """Create a super admin, or make one of an existing account and set its password."""
    await tx.execute(_INSERT, new_id(), email, name, password_hash, True)
    await tx.execute(_PROMOTE, email, password_hash, name)
