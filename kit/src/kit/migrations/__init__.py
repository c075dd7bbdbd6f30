"""Schema migrations: Alembic with raw SQL, run as the database's owner, one runner at a time.

A service keeps its revisions in `svc_x/migrations/versions`. Every migration must work with the code of the previous
release (expand, deploy, contract), because services of both releases run side by side during an update.
"""

import asyncio
from pathlib import Path

import structlog

from kit.migrations.schema import SchemaOutdated, head_of, require_schema

__all__ = ["SchemaOutdated", "head_of", "migrate", "require_schema"]

log = structlog.get_logger()


async def migrate(owner_dsn: str, versions: Path) -> None:
    """Apply all missing revisions. Safe to run from several places at once: an advisory lock lets one in."""
    # Alembic and what it builds on take half a second to import, which every process would pay at its start.
    from kit.migrations.runner import upgrade  # noqa: PLC0415

    await asyncio.to_thread(upgrade, owner_dsn, versions)
    log.info("schema_migrated", revision=head_of(versions))
