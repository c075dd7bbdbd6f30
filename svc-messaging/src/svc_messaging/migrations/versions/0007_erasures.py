"""Erasing a workspace: who is erased, which numbers it had, and the rights to delete.

The server deletes, within the workspace and only of one that is marked: a restrictive policy beside the belt. Nobody
adds to a marked one, whatever he still remembers of it. The marks stay; they hold ids and nobody's personal data.

A policy locks its table out of all traffic for a moment. So each is made in a transaction of its own, never two tables
at once, which deadlocked with traffic; what was cut short is begun anew and finds what is there.
"""

from alembic import op
from sqlalchemy import text

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

APP = "messaging_app"
WORKER = "messaging_worker"

OWN = "(SELECT current_setting('app.tenant_id')::uuid)"
# What everything else of a workspace hangs on.
CLOSED = ("contacts", "conversations", "messages", "media", "send_requests")
DELETED = (
    "contacts",
    "contact_identities",
    "conversations",
    "messages",
    "wamids",
    "send_requests",
    "reactions",
    "media",
)


def upgrade() -> None:
    marks()
    with op.get_context().autocommit_block():
        for table in CLOSED:
            create_policy(
                f"{table}_not_erased",
                table,
                f"AS RESTRICTIVE FOR INSERT TO {APP}, {WORKER}"
                " WITH CHECK (NOT EXISTS (SELECT FROM erased_tenants e WHERE e.id = tenant_id))",
            )
        for table in DELETED:
            create_policy(
                f"{table}_erased",
                table,
                f"AS RESTRICTIVE FOR DELETE TO {APP}"
                f" USING ((SELECT EXISTS (SELECT FROM erased_tenants WHERE id = {OWN})))",
            )
            op.execute(f"GRANT DELETE ON {table} TO {APP}")
        parked_events()
        outbox()


def create_policy(name: str, table: str, definition: str) -> None:
    known = "SELECT 1 FROM pg_policy WHERE polname = :name AND polrelid = to_regclass(:table)"
    if not op.get_bind().execute(text(known), {"name": name, "table": table}).first():
        op.execute(f"CREATE POLICY {name} ON {table} {definition}")


def marks() -> None:
    op.execute(
        "CREATE TABLE IF NOT EXISTS erased_tenants (id uuid PRIMARY KEY, erased_at timestamptz NOT NULL DEFAULT now())"
    )
    # What Meta sent for the number up to `had_until` belonged to an erased workspace, whoever has the number now.
    op.execute(
        "CREATE TABLE IF NOT EXISTS erased_numbers (phone_number_id text PRIMARY KEY, had_until timestamptz NOT NULL)"
    )
    op.execute(f"GRANT SELECT, INSERT ON erased_tenants TO {APP}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE (had_until) ON erased_numbers TO {APP}")
    op.execute(f"GRANT SELECT ON erased_tenants, erased_numbers TO {WORKER}")


def parked_events() -> None:
    # Of no tenant, so they are found by number; deleted by a caller in no tenant, and of a marked number alone.
    create_policy(
        "parked_events_erased",
        "parked_events",
        f"FOR DELETE TO {APP} USING ((SELECT current_setting('app.tenant_id') = '')"
        " AND EXISTS (SELECT FROM erased_numbers e WHERE e.phone_number_id = parked_events.phone_number_id))",
    )
    op.execute(f"GRANT DELETE ON parked_events TO {APP}")


def outbox() -> None:
    # The server may not read the outbox. Commands to send name ids only, and find nothing when they arrive.
    op.execute(
        """
        CREATE OR REPLACE FUNCTION erase_from_outbox(erased uuid) RETURNS bigint
        LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        WITH gone AS (
            DELETE FROM outbox
            WHERE subject LIKE 'events.%' AND right(subject, 37) = '.' || erased
              AND EXISTS (SELECT FROM erased_tenants WHERE id = erased)
            RETURNING 1
        )
        SELECT count(*) FROM gone
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION erase_from_outbox FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION erase_from_outbox TO {APP}")
