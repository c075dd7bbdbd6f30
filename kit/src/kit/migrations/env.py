"""Alembic's entry point, the same for every service."""

import asyncio
import time
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

# Any constant: all runners of one database meet at this lock.
_LOCK = 7_302_118_410


def _remember(ctx: MigrationContext, step: MigrationInfo, heads: Any, run_args: Any) -> None:  # noqa: ARG001
    """Note each applied revision, so that older code can tell a newer schema from an unknown one."""
    for revision in step.up_revision_ids:
        assert ctx.connection is not None
        ctx.connection.execute(
            text("INSERT INTO schema_history (revision) VALUES (:revision) ON CONFLICT DO NOTHING"),
            {"revision": revision},
        )


def _upgrade(connection: Connection) -> None:
    _await_turn(connection)
    # A migration that waits for a lock blocks everyone behind it, so it gives up quickly and is run again.
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.execute(
        text(
            "CREATE TABLE IF NOT EXISTS schema_history"
            " (revision text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
    )
    connection.execute(text("GRANT SELECT ON schema_history TO PUBLIC"))
    connection.commit()
    context.configure(
        connection=connection, target_metadata=None, transaction_per_migration=True, on_version_apply=_remember
    )
    with context.begin_transaction():
        context.run_migrations()


def _await_turn(connection: Connection) -> None:
    """Take the lock, asking again and again: whoever waits for it inside a statement holds a snapshot, for which an
    index that the other runner builds beside the traffic would wait in turn.
    """
    while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}).scalar_one():
        connection.commit()
        time.sleep(0.2)


async def _run() -> None:
    dsn = context.config.attributes["dsn"].replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(dsn, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(_upgrade)
    await engine.dispose()


if context.is_offline_mode():
    raise SystemExit("Migrations run against a live database only.")
asyncio.run(_run())
