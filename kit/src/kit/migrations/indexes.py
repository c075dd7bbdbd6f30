"""Indexes of tables that may be filled: built beside the traffic, each in its own transaction."""

from collections.abc import Mapping, Sequence

from alembic import op
from sqlalchemy import text

_UNFINISHED = text("SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid")


def build(indexes: Mapping[str, str], *, replaced: Sequence[str] = ()) -> None:
    """Build indexes, given by name as what follows ON, then drop those that they replace.

    What the migration did before is committed first. A build that was cut short is begun anew, and a finished one is
    kept, so the migration may be repeated.
    """
    with op.get_context().autocommit_block():
        # A build waits for the transactions that began before it, which ends when they do; nobody waits for the build.
        op.execute("SET lock_timeout = 0")
        for name, definition in indexes.items():
            if op.get_bind().execute(_UNFINISHED, {"name": name}).first():
                op.execute(f"DROP INDEX CONCURRENTLY {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {definition}")
        for name in replaced:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute("SET lock_timeout = '5s'")
