"""Indexes by age for Meta's ids and files, so that what is over can be found and forgotten; the right to do so.

Built beside the traffic, as in 0002.
"""

from alembic import op

from kit.migrations import indexes

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INDEXES = {
    # Ids grow with time: new entries go to the right end, which stays in memory.
    "wamids_by_age": "wamids (message_id)",
    "media_kept": "media (created_at) WHERE state = 'ready'",
}


def upgrade() -> None:
    op.execute("GRANT DELETE ON wamids TO messaging_worker")
    indexes.build(INDEXES)
