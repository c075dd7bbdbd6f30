"""What keeps a year of data fast: indexes for retention, status changes that touch no index, earlier vacuum; and parked
events that can be asked for again.

Nothing here holds a lock for long on a filled database: columns are added empty, storage parameters take a lock that
lets reads and writes through, and indexes are built beside the traffic. A build that was cut short is begun anew.

The index of waiting messages was partial by `status`, so that no change of a status could stay within its page (HOT).
The new one is partial by columns that change once in a message's life. The old one goes at once, since no release used
it: code that asks for it counts waiting messages more slowly until it is replaced, and right.
"""

from alembic import op

from kit.migrations import indexes

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APP = "messaging_app"
WORKER = "messaging_worker"

INDEXES = {
    "messages_unsent": (
        "messages (tenant_id, phone_number_id)"
        " WHERE direction = 'outbound' AND accepted_at IS NULL AND failed_at IS NULL"
    ),
    "send_requests_by_age": "send_requests (created_at)",
    "parked_events_by_state": "parked_events (state, id DESC)",
    "parked_events_by_number": "parked_events (phone_number_id, id DESC)",
    "parked_events_settled": "parked_events (settled_at) WHERE state = 'settled'",
    "parked_events_retrying": "parked_events (id) WHERE retry_requested_at IS NOT NULL",
}

# Vacuum and analyze by a small share of a large table, so that each run is short. Pages of messages keep room for the
# four or five versions that a status change writes.
STORAGE = {
    "messages": (
        "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,"
        " autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02"
    ),
    "conversations": (
        "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,"
        " autovacuum_analyze_scale_factor = 0.02"
    ),
    "wamids": (
        "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02,"
        " autovacuum_analyze_scale_factor = 0.05"
    ),
    "send_requests": "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02",
    "parked_events": "autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05",
    "media_chunks": "autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02",
    # By count alone, and at once: the relay reads the front of a table that is empty most of the time.
    "outbox": (
        "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,"
        " autovacuum_vacuum_insert_threshold = 2000, autovacuum_vacuum_cost_delay = 0"
    ),
}


def upgrade() -> None:
    op.execute("ALTER TABLE parked_events ADD COLUMN IF NOT EXISTS retry_requested_at timestamptz")
    # A super admin may ask for a retry and change nothing else; the inbox, which may, takes the event in.
    for name, verb in (("platform", "SELECT"), ("retry", "UPDATE")):
        op.execute(f"DROP POLICY IF EXISTS parked_events_{name} ON parked_events")
        op.execute(
            f"CREATE POLICY parked_events_{name} ON parked_events FOR {verb} TO {APP}"
            " USING ((SELECT current_setting('app.tenant_id') = ''))"
        )
    op.execute(f"GRANT UPDATE (retry_requested_at) ON parked_events TO {APP}")
    op.execute(f"GRANT DELETE ON parked_events TO {WORKER}")
    for table, parameters in STORAGE.items():
        op.execute(f"ALTER TABLE {table} SET ({parameters})")
    indexes.build(INDEXES, replaced=["messages_waiting"])
