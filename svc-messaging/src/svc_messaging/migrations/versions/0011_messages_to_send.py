"""What waits of a number is read from the table a few messages at a time, oldest first: an index in that order.

It replaces messages_unsent, whose columns it begins with, so counting a queue and looking at a tenant's work use it as
well. Partial by the same columns, which change once in a message's life: other changes stay within their page (HOT). It
is built beside the traffic before the old one goes; a build that was cut short is begun anew.
"""

from kit.migrations import indexes

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    to_send = (
        "messages (tenant_id, phone_number_id, lane, id)"
        " WHERE direction = 'outbound' AND accepted_at IS NULL AND failed_at IS NULL"
    )
    indexes.build({"messages_to_send": to_send}, replaced=["messages_unsent"])
