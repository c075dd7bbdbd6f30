"""The scopes that a process of all tenants stands in for: those of every tenant that has a placement.

A tenant that has moved back keeps its row until its own partitions have been empty for long.
"""

import asyncio
import contextlib

import structlog

from kit.db import Database, as_app_error
from kit.principal import Principal
from svc_messaging import placements

log = structlog.get_logger()

_LOOK_SECONDS = 1.0


class Scopes:
    """As the table had them a moment ago; while the database is away, as they were."""

    def __init__(self, db: Database, worker: Principal) -> None:
        self._db = db
        self._worker = worker
        self._known: frozenset[str] = frozenset()

    def __call__(self) -> frozenset[str]:
        return self._known

    async def follow(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self.look()
            except Exception as error:
                if as_app_error(error) is None:
                    raise
                log.warning("scopes_not_read", error=repr(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)

    async def look(self) -> None:
        async with self._db.begin(self._worker) as tx:
            rows = await placements.every(tx)
        self._known = frozenset(str(row["tenant_id"]) for row in rows)
