"""Registrations: a workspace and its first admin, both or neither.

The two live in two services, so a registration is a promise that is kept step by step: it is written down, the tenant
is created under the id in it (repeatable), then the user. Whoever finds it unfinished, by the same call again, by a
log-in or by the background task, carries it on; it never goes back.
"""

import uuid

import asyncpg

from kit.db import Row, Tx, violated
from kit.ids import new_id
from svc_auth import users
from svc_auth.errors import EmailTaken, TenantDeleting

_PENDING = "SELECT * FROM registrations WHERE email = $1 AND state = 'pending'"
_INSERT = """
    INSERT INTO registrations (id, user_id, email, name, password_hash, workspace_name)
    VALUES ($1, $2, $3, $4, $5, $6) RETURNING *
"""
_LOCK = "SELECT * FROM registrations WHERE id = $1 FOR UPDATE"
_COMPLETE = "UPDATE registrations SET state = 'completed' WHERE id = $1"
_UNFINISHED = """
    SELECT * FROM registrations WHERE state = 'pending' AND created_at < now() - make_interval(secs => $1)
    ORDER BY created_at LIMIT 100
"""


async def find_pending(tx: Tx, email: str) -> Row | None:
    return await tx.fetchrow(_PENDING, email)


async def begin(tx: Tx, *, email: str, name: str, password_hash: str, workspace_name: str) -> Row:
    """Write the promise down. Raises EmailTaken."""
    if await users.find_by_email(tx, email) is not None:
        raise EmailTaken
    try:
        row = await tx.fetchrow(_INSERT, new_id(), new_id(), email, name, password_hash, workspace_name)
    except asyncpg.exceptions.UniqueViolationError as error:
        if violated(error, "registrations_one_pending"):
            raise EmailTaken from error
        raise
    assert row is not None
    return row


async def complete(tx: Tx, registration_id: uuid.UUID) -> Row:
    """Make the admin, now that the tenant exists; gives the user. Repeating it changes nothing.

    Raises TenantDeleting where the tenant is erased meanwhile.
    """
    registration = await tx.fetchrow(_LOCK, registration_id)
    if registration is None:
        raise TenantDeleting
    user = await users.add_first_admin(tx, registration)
    await tx.execute(_COMPLETE, registration_id)
    return user


async def unfinished(tx: Tx, *, older_than_seconds: float) -> list[Row]:
    return await tx.fetch(_UNFINISHED, older_than_seconds)
