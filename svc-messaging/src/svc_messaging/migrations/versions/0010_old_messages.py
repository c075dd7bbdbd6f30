"""Messages may be forgotten, with the files that no other message shows: the right to do so, and an index that tells
whether a file is shown by another.

Old messages need no index of their own: ids grow with time, so the oldest of a tenant stand first in the primary key.
The index holds outbound messages with a file alone, by columns that never change, so changes of a status stay within
their page (HOT). It is built beside the traffic; a build that was cut short is begun anew.
"""

from alembic import op
from sqlalchemy import text

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

NAME = "messages_by_file"


def upgrade() -> None:
    op.execute("GRANT DELETE ON messages, media TO messaging_worker")
    with op.get_context().autocommit_block():
        # A build waits for the transactions that began before it, which ends when they do; nobody waits for the build.
        op.execute("SET lock_timeout = 0")
        unfinished = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid"
        if op.get_bind().execute(text(unfinished), {"name": NAME}).first():
            op.execute(f"DROP INDEX CONCURRENTLY {NAME}")
        op.execute(
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {NAME}"
            " ON messages (tenant_id, media_id) WHERE direction = 'outbound' AND media_id IS NOT NULL"
        )
        op.execute("SET lock_timeout = '5s'")
