"""Which revision a database has, told without Alembic."""

from pathlib import Path

from kit.db import Database


class SchemaOutdated(Exception):
    """The database lacks a revision that this code needs: run the service's `migrate` command first."""


def head_of(versions: Path) -> str:
    """The newest revision that the code brings. Files are named by theirs, `0001_tenants.py`, and stand in a row."""
    return max(path.name.partition("_")[0] for path in versions.glob("[0-9]*_*.py"))


async def require_schema(db: Database, versions: Path) -> None:
    """Raise unless the code's newest revision has been applied. A newer schema is fine: migrations only expand."""
    head = head_of(versions)
    exists = await db.fetchval("SELECT to_regclass('schema_history') IS NOT NULL")
    if not exists or not await db.fetchval("SELECT count(*) FROM schema_history WHERE revision = $1", head):
        raise SchemaOutdated(f"The database is older than this program, which needs revision {head}: run `migrate`.")
