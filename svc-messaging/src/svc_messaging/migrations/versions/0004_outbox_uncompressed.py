"""Rows of the outbox as they are: they are read once and deleted within moments, and compressing them took more than
all the rest of their way through the table.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE outbox ALTER COLUMN data SET STORAGE EXTERNAL")
