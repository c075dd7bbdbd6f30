"""Forgets what has served its purpose, a little at a time: request ids, and parked events that are settled."""

import asyncio

import structlog
from prometheus_client import Counter

from kit.db import Database, as_app_error
from kit.leases import LeasePool
from kit.principal import Principal

log = structlog.get_logger()

_forgotten = Counter("aerostic_rows_forgotten_total", "Rows deleted because their time was over", ["table"])

_POLL_SECONDS = 60.0
_BATCH_ROWS = 1000
"""Small, so that no delete holds its locks for long."""

_FORGET = {
    "send_requests": """
        WITH old AS (
            SELECT tenant_id, request_id FROM send_requests
            WHERE created_at < now() - make_interval(days => $1) ORDER BY created_at LIMIT $2
        )
        DELETE FROM send_requests r USING old WHERE r.tenant_id = old.tenant_id AND r.request_id = old.request_id
    """,
    "parked_events": """
        WITH old AS (
            SELECT id FROM parked_events
            WHERE state = 'settled' AND settled_at < now() - make_interval(days => $1) ORDER BY settled_at LIMIT $2
        )
        DELETE FROM parked_events p USING old WHERE p.id = old.id
    """,
}


class Janitor:
    """Looks once a minute; one process of all does."""

    def __init__(self, db: Database, worker: Principal, *, keep_days: dict[str, int]) -> None:
        """`keep_days`: days by table; 0 keeps for ever."""
        self._db = db
        self._worker = worker
        self._keep_days = {table: days for table, days in keep_days.items() if days}

    async def run(self, dsn: str, stop: asyncio.Event) -> None:
        await LeasePool(dsn, "inbox janitor", 1).run(self._work, stop)

    async def _work(self, _lease: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            is_done = True
            try:
                is_done = not any([await self.forget(table) == _BATCH_ROWS for table in self._keep_days])
            except Exception as error:
                if as_app_error(error) is None:
                    raise
                log.warning("janitor_waits", error=repr(error))
            waiting = asyncio.ensure_future(stop.wait())
            await asyncio.wait([waiting], timeout=_POLL_SECONDS if is_done else 0.1)
            waiting.cancel()

    async def forget(self, table: str) -> int:
        """Delete the oldest rows whose time is over, some at a time; gives how many."""
        async with self._db.begin(self._worker) as tx:
            done = await tx.execute(_FORGET[table], self._keep_days[table], _BATCH_ROWS)
        count = int(done.rpartition(" ")[2])
        _forgotten.labels(table).inc(count)
        return count
