"""A page of the conversations in one state is as fast with a hundred thousand in the other: it has an index of its own.
That by activity was walked past all that are not wanted.

It is built beside the traffic; a build that was cut short is begun anew.
"""

from alembic import op
from sqlalchemy import text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NAME = "conversations_by_state"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # A build waits for the transactions that began before it, which ends when they do; nobody waits for the build.
        op.execute("SET lock_timeout = 0")
        unfinished = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid"
        if op.get_bind().execute(text(unfinished), {"name": NAME}).first():
            op.execute(f"DROP INDEX CONCURRENTLY {NAME}")
        op.execute(
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {NAME}"
            " ON conversations (tenant_id, state, last_activity_at DESC, id DESC)"
        )
        op.execute("SET lock_timeout = '5s'")
