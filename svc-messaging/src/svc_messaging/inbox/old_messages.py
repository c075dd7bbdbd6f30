"""Messages that were kept for as long as the settings say go, and with each what hangs on it alone: Meta's ids of it,
reactions to it, the request id that led to it, and its file where no other message shows that.

What still waits to be sent stays, however old. Conversations and contacts stay: they hold a customer's identities and
the 24-hour window, and take little room. A conversation whose newest message goes has none from then on, and nothing
unanswered.

Ids grow with time, so a tenant's oldest messages stand first in the primary key, and the first entry of each tenant
tells whether any is over. Tenants take turns: each gives a few messages, then the next ones do.
"""

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import NamedTuple

import asyncpg
import structlog

from kit.db import Database, Row, Tx
from kit.ids import first_id_at
from kit.principal import Principal
from svc_messaging import lattice

log = structlog.get_logger()

TENANTS = 10
"""Of one batch, at most."""
ROWS = 100
"""Messages of one tenant in one batch, at most."""
FILES = 20
"""Of one batch, at most: each may have some hundred megabytes."""

FIRST = uuid.UUID(int=0)
"""Below every tenant's id."""

# Whoever holds something that is to go has a use for it now. The janitor gives up first, well before PostgreSQL looks
# for a deadlock, so that nobody else is told to begin again.
_PATIENCE = "SET LOCAL lock_timeout = '300ms'"

# Walks from tenant to tenant and reads one entry of each, no further than to the last that this batch takes.
FIND = f"""
    WITH RECURSIVE oldest AS (
        (SELECT tenant_id, id FROM messages WHERE tenant_id > $2 ORDER BY tenant_id, id LIMIT 1)
        UNION ALL
        SELECT following.tenant_id, following.id FROM oldest CROSS JOIN LATERAL (
            SELECT m.tenant_id, m.id FROM messages m WHERE m.tenant_id > oldest.tenant_id
            ORDER BY m.tenant_id, m.id LIMIT 1
        ) following
    ), due AS (
        SELECT tenant_id FROM oldest WHERE id < $1 LIMIT $3
    )
    SELECT due.tenant_id, old.id, old.conversation_id, old.request_id, old.media_id
    FROM due LEFT JOIN LATERAL (
        SELECT m.id, m.conversation_id, m.request_id, m.media_id FROM messages m
        WHERE m.tenant_id = due.tenant_id AND m.id < $1 AND NOT ({lattice.WAITING})
        ORDER BY m.id LIMIT $4 FOR UPDATE SKIP LOCKED
    ) old ON true
"""

_GONE = "unnest($1::uuid[], $2::uuid[]) AS gone (tenant_id, id)"
# Before their messages, whose ids they are found by.
HANGING = {
    "reactions": f"""
        DELETE FROM reactions r USING {_GONE} WHERE r.tenant_id = gone.tenant_id AND r.message_id = gone.id
    """,
    "wamids": f"""
        DELETE FROM wamids w USING {_GONE} WHERE w.tenant_id = gone.tenant_id AND w.message_id = gone.id
    """,
}
REQUESTS = """
    DELETE FROM send_requests s USING unnest($1::uuid[], $2::uuid[], $3::text[]) AS gone (tenant_id, id, request_id)
    WHERE s.tenant_id = gone.tenant_id AND s.request_id = gone.request_id AND s.message_id = gone.id
"""
CONVERSATIONS = """
    UPDATE conversations c SET last_message_id = NULL, unanswered_count = 0
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS gone (tenant_id, id, conversation_id)
    WHERE c.tenant_id = gone.tenant_id AND c.id = gone.conversation_id AND c.last_message_id = gone.id
"""
MESSAGES = f"DELETE FROM messages m USING {_GONE} WHERE m.tenant_id = gone.tenant_id AND m.id = gone.id"

# A customer's file has one message; one of ours may be sent as often as somebody likes.
_UNUSED = """NOT EXISTS (
        SELECT FROM messages m WHERE m.tenant_id = f.tenant_id AND m.media_id = f.id AND m.direction = 'outbound'
    )"""
# Whoever sends a file holds it until his message is stored. So what nobody uses is held first; the next statement sees
# the message of whoever was faster.
HOLD_FILES = f"""
    SELECT f.tenant_id, f.id FROM {_GONE} JOIN media f ON f.tenant_id = gone.tenant_id AND f.id = gone.id
    WHERE {_UNUSED} ORDER BY f.tenant_id, f.id FOR UPDATE OF f
"""
# The bytes go with it (ON DELETE CASCADE).
MEDIA = f"DELETE FROM media f USING {_GONE} WHERE f.tenant_id = gone.tenant_id AND f.id = gone.id AND {_UNUSED}"


class Found(NamedTuple):
    """What is to go in one batch, and where the next one begins."""

    rows: list[Row]
    after: uuid.UUID
    """The last tenant that had its turn; FIRST where all had."""
    some_are_left: bool = False
    """Whether a tenant had more to give than its turn takes."""


class OldMessages:
    """Forgets them a batch at a time. Remembers whose turn is next; who begins anew begins at the first tenant."""

    def __init__(self, db: Database, worker: Principal) -> None:
        self._db = db
        self._worker = worker
        self._after = FIRST
        self._is_busy = False

    async def forget(self, before: datetime) -> tuple[dict[str, int], bool]:
        """Forget some of those that were made before a moment. Gives the number of rows by table, and whether to go on
        at once: until all tenants had a turn after which nothing was left of theirs.
        """
        counts: dict[str, int] = {}
        found = Found([], FIRST)
        try:
            async with self._db.begin(self._worker, first=_PATIENCE) as tx:
                found = await find(tx, before, after=self._after)
                counts = await _delete(tx, found.rows)
        except asyncpg.LockNotAvailableError as error:
            # Nothing has gone; the others have their turns first.
            counts = {}
            log.info("old_messages_wait", messages=len(found.rows), error=repr(error))
        self._after = found.after
        self._is_busy = self._is_busy or found.some_are_left
        if found.after != FIRST:
            return counts, True
        is_busy, self._is_busy = self._is_busy, False
        return counts, is_busy


async def find(tx: Tx, before: datetime, *, after: uuid.UUID) -> Found:
    """Hold the oldest messages of the first tenants beyond `after` that have any; those that somebody else holds are
    passed over.
    """
    rows = await tx.fetch(FIND, first_id_at(before), after, TENANTS, ROWS)
    files = accumulate(row["media_id"] is not None for row in rows)
    taken = [row for row, count in zip(rows, files, strict=True) if count <= FILES]
    is_cut = len(taken) < len(rows)
    by_tenant = Counter(row["tenant_id"] for row in taken)
    return Found(
        [row for row in taken if row["id"] is not None],
        FIRST if not is_cut and len(by_tenant) < TENANTS else max(by_tenant),
        some_are_left=is_cut or ROWS in by_tenant.values(),
    )


async def _delete(tx: Tx, rows: Sequence[Row]) -> dict[str, int]:
    """Delete them and what hangs on them. Gives the number of rows by table, where any went."""
    if not rows:
        return {}
    tenants, ids = [row["tenant_id"] for row in rows], [row["id"] for row in rows]
    counts = {table: _count(await tx.execute(statement, tenants, ids)) for table, statement in HANGING.items()}
    counts["send_requests"] = _count(await tx.execute(REQUESTS, tenants, ids, [row["request_id"] for row in rows]))
    await tx.execute(CONVERSATIONS, tenants, ids, [row["conversation_id"] for row in rows])
    counts["messages"] = _count(await tx.execute(MESSAGES, tenants, ids))
    if files := sorted({(row["tenant_id"], row["media_id"]) for row in rows if row["media_id"]}):
        counts["media"] = await _delete_files(tx, files)
    return {table: count for table, count in counts.items() if count}


async def _delete_files(tx: Tx, files: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> int:
    held = await tx.fetch(HOLD_FILES, [tenant for tenant, _ in files], [each for _, each in files])
    if not held:
        return 0
    return _count(await tx.execute(MEDIA, [row["tenant_id"] for row in held], [row["id"] for row in held]))


def _count(done: str) -> int:
    """Rows by a command's tag, such as "DELETE 3"."""
    return int(done.rpartition(" ")[2])
