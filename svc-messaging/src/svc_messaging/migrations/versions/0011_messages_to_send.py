"""What waits of a number is read from the table a few messages at a time, oldest first: an index in that order.

It replaces messages_unsent, whose columns it begins with, so counting a queue and looking at a tenant's work use it as
well. Partial by the same columns, which change once in a message's life: other changes stay within their page (HOT). It
is built beside the traffic before the old one goes; a build that was cut short is begun anew.
"""

from alembic import op
from sqlalchemy import text

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NAME = "messages_to_send"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # A build waits for the transactions that began before it, which ends when they do; nobody waits for the build.
        op.execute("SET lock_timeout = 0")
        unfinished = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid"
        if op.get_bind().execute(text(unfinished), {"name": NAME}).first():
            op.execute(f"DROP INDEX CONCURRENTLY {NAME}")
        op.execute(
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {NAME} ON messages (tenant_id, phone_number_id, lane, id)"
            " WHERE direction = 'outbound' AND accepted_at IS NULL AND failed_at IS NULL"
        )
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS messages_unsent")
        op.execute("SET lock_timeout = '5s'")
