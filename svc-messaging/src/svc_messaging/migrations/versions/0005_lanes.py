"""Each message knows its lane, so that one whose command is lost, repeated or retried stays behind the live ones.

The default is a constant, so no row is written; the check looks at the rows beside the traffic.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE messages ADD COLUMN IF NOT EXISTS lane text NOT NULL DEFAULT 'live'")
    op.execute("ALTER TABLE messages DROP CONSTRAINT IF EXISTS messages_lane")
    op.execute("ALTER TABLE messages ADD CONSTRAINT messages_lane CHECK (lane IN ('live', 'bulk')) NOT VALID")
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute("ALTER TABLE messages VALIDATE CONSTRAINT messages_lane")
        op.execute("SET lock_timeout = '5s'")
