"""Forgets what has served its purpose, a little at a time, as long as the settings say and no longer.

Nothing here takes back what somebody was promised: rows of the outbox are never forgotten, only published.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import structlog
from prometheus_client import Counter

from kit.db import Database, as_app_error
from kit.ids import first_id_at
from kit.leases import LeasePool
from kit.principal import Principal
from svc_messaging import lattice
from svc_messaging.inbox.old_messages import OldMessages

log = structlog.get_logger()

_forgotten = Counter("aerostic_rows_forgotten_total", "Rows deleted because their time was over", ["table"])

_POLL_SECONDS = 60.0
_PAUSE_SECONDS = 0.1
"""Between two batches, so that a long sweep leaves the disk to the others."""


class Rule(NamedTuple):
    """How to forget the oldest of a kind: $1 the moment (or the id of that moment) before which it is over, $2 the
    most rows, few enough that no statement holds its locks for long.
    """

    table: str
    statement: str
    rows: int = 1000
    is_by_id: bool = False
    hold: str = ""
    """Finds and holds the rows first, where a row that somebody has just come to need can be told only once it is held.
    Then the statement's values are the tenants and ids of these.
    """


_NOT_WAITING = f"""NOT EXISTS (
        SELECT FROM messages m WHERE m.tenant_id = f.tenant_id AND m.media_id = f.id AND {lattice.WAITING}
    )"""

RULES = {
    "request_ids": Rule(
        "send_requests",
        """
        WITH old AS (SELECT tenant_id, request_id FROM send_requests WHERE created_at < $1 ORDER BY created_at LIMIT $2)
        DELETE FROM send_requests r USING old WHERE r.tenant_id = old.tenant_id AND r.request_id = old.request_id
        """,
    ),
    "wamids": Rule(
        "wamids",
        """
        WITH old AS (
            SELECT tenant_id, phone_number_id, wamid FROM wamids WHERE message_id < $1 ORDER BY message_id LIMIT $2
        )
        DELETE FROM wamids w USING old
        WHERE w.tenant_id = old.tenant_id AND w.phone_number_id = old.phone_number_id AND w.wamid = old.wamid
        """,
        is_by_id=True,
    ),
    "settled": Rule(
        "parked_events",
        """
        WITH old AS (
            SELECT id FROM parked_events WHERE state = 'settled' AND settled_at < $1 ORDER BY settled_at LIMIT $2
        )
        DELETE FROM parked_events p USING old WHERE p.id = old.id AND p.state = 'settled'
        """,
    ),
    "parked": Rule(
        "parked_events",
        """
        WITH old AS (SELECT id FROM parked_events WHERE state = 'parked' AND id < $1 ORDER BY id LIMIT $2)
        DELETE FROM parked_events p USING old WHERE p.id = old.id AND p.state = 'parked'
        """,
        is_by_id=True,
    ),
    # A status whose message nobody knows waits for it. The message is older than the status, so once messages of that
    # age have been forgotten, it waits for nothing.
    "unknown_messages": Rule(
        "parked_events",
        """
        WITH old AS (
            SELECT id FROM parked_events WHERE reason = 'unknown_message' AND state = 'parked' AND id < $1
            ORDER BY id LIMIT $2
        )
        DELETE FROM parked_events p USING old WHERE p.id = old.id AND p.state = 'parked'
        """,
        is_by_id=True,
    ),
    # The bytes go, the description stays with its message. A file that waits to be sent is left alone. Whoever sends it
    # holds it until his message is stored: so it is held first, and the next statement sees the message of whoever was
    # faster.
    "media": Rule(
        "media",
        f"""
        WITH old AS (
            SELECT tenant_id, id FROM unnest($1::uuid[], $2::uuid[]) AS f (tenant_id, id) WHERE {_NOT_WAITING}
        ), emptied AS (
            DELETE FROM media_chunks c USING old WHERE c.tenant_id = old.tenant_id AND c.media_id = old.id
        )
        UPDATE media f SET state = 'failed', failure = 'It was deleted, as old as this installation keeps files.'
        FROM old WHERE f.tenant_id = old.tenant_id AND f.id = old.id
        """,
        rows=20,
        hold=f"""
        SELECT tenant_id, id FROM media f
        WHERE state = 'ready' AND created_at < $1 AND {_NOT_WAITING}
        ORDER BY created_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
        """,
    ),
}


class Janitor:
    """Looks once a minute; one process of all does."""

    def __init__(
        self, db: Database, worker: Principal, *, keep_days: dict[str, int], messages_keep_days: int = 0
    ) -> None:
        """`keep_days`: days by the name of a rule; 0 keeps for ever, as it does for messages."""
        self._db = db
        self._worker = worker
        self._keep_days = {name: days for name, days in keep_days.items() if days}
        self._messages_keep_days = messages_keep_days
        self._messages = OldMessages(db, worker)

    async def run(self, dsn: str, stop: asyncio.Event) -> None:
        await LeasePool(dsn, "inbox janitor", 1).run(self._work, stop)

    async def _work(self, _lease: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            is_done = True
            try:
                full = [await self.forget(name) == RULES[name].rows for name in self._keep_days]
                is_done = not any([*full, await self.forget_messages()])
            except Exception as error:
                if as_app_error(error) is None:
                    raise
                log.warning("janitor_waits", error=repr(error))
            waiting = asyncio.ensure_future(stop.wait())
            await asyncio.wait([waiting], timeout=_POLL_SECONDS if is_done else _PAUSE_SECONDS)
            waiting.cancel()

    async def forget(self, name: str) -> int:
        """Delete the oldest of a kind whose time is over, some at a time; gives how many."""
        rule = RULES[name]
        over = _over(self._keep_days[name])
        async with self._db.begin(self._worker) as tx:
            found: tuple[Any, Any] = (first_id_at(over) if rule.is_by_id else over, rule.rows)
            if rule.hold:
                held = await tx.fetch(rule.hold, *found)
                found = [row["tenant_id"] for row in held], [row["id"] for row in held]
            done = await tx.execute(rule.statement, *found)
        count = int(done.rpartition(" ")[2])
        _forgotten.labels(rule.table).inc(count)
        return count

    async def forget_messages(self) -> bool:
        """Forget some messages whose time is over, and what hangs on them; gives whether to go on at once."""
        if not self._messages_keep_days:
            return False
        counts, is_more = await self._messages.forget(_over(self._messages_keep_days))
        for table, count in counts.items():
            _forgotten.labels(table).inc(count)
        return is_more


def _over(days: int) -> datetime:
    """The moment before which everything is older than so many days."""
    return datetime.now(UTC) - timedelta(days=days)
