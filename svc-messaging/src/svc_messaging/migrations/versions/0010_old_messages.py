"""Messages may be forgotten, with the files that no other message shows: the right to do so, and an index that tells
whether a file is shown by another.

Old messages need no index of their own: ids grow with time, so the oldest of a tenant stand first in the primary key.
The index holds outbound messages with a file alone, by columns that never change, so changes of a status stay within
their page (HOT). It is built beside the traffic; a build that was cut short is begun anew.
"""

from alembic import op

from kit.migrations import indexes

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("GRANT DELETE ON messages, media TO messaging_worker")
    indexes.build(
        {"messages_by_file": "messages (tenant_id, media_id) WHERE direction = 'outbound' AND media_id IS NOT NULL"}
    )
