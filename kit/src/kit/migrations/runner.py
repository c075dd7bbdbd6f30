"""Bring a database to the newest revision, and refuse to run against an older one."""

import asyncio
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from kit.db import Database

log = structlog.get_logger()


class SchemaOutdated(Exception):
    """The database lacks a revision that this code needs: run the service's `migrate` command first."""


async def migrate(owner_dsn: str, versions: Path) -> None:
    """Apply all missing revisions. Safe to run from several places at once: an advisory lock lets one in."""
    await asyncio.to_thread(command.upgrade, _config(versions, owner_dsn), "head")
    log.info("schema_migrated", revision=head_of(versions))


def head_of(versions: Path) -> str:
    """The newest revision that the code brings."""
    head = ScriptDirectory.from_config(_config(versions)).get_current_head()
    assert head is not None, f"{versions} holds no revision"
    return head


async def require_schema(db: Database, versions: Path) -> None:
    """Raise unless the code's newest revision has been applied. A newer schema is fine: migrations only expand."""
    head = head_of(versions)
    exists = await db.fetchval("SELECT to_regclass('schema_history') IS NOT NULL")
    if not exists or not await db.fetchval("SELECT count(*) FROM schema_history WHERE revision = $1", head):
        raise SchemaOutdated(f"The database is older than this program, which needs revision {head}: run `migrate`.")


def _config(versions: Path, owner_dsn: str = "") -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "os")
    config.attributes["dsn"] = owner_dsn
    return config
