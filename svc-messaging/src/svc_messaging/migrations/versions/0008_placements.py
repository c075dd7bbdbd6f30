"""Where a tenant's work waits: in the partitions that tenants share, or in partitions of its own (ADR 0025).

A tenant without a row shares and has never moved. The server reads its own tenant's row, to know where to command a
message; the workers of all tenants read them all, and one of them moves.
"""

from alembic import op

from kit.migrations.tables import protect_tenant_table

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

APP = "messaging_app"
WORKER = "messaging_worker"

OWN = "(SELECT current_setting('app.tenant_id')::uuid)"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE placements (
            tenant_id uuid PRIMARY KEY,
            isolation text NOT NULL CHECK (isolation IN ('shared', 'dedicated')),
            moved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            -- Nothing of the tenant is sent before. Different for every move, so that whoever sends can tell by it
            -- whether he has looked at what waited since.
            settled_at timestamptz
        )
        """
    )
    for statement in protect_tenant_table(
        "placements", app_role=APP, app="SELECT, DELETE", workers={WORKER: "SELECT, INSERT, UPDATE, DELETE"}
    ):
        op.execute(statement)
    op.execute(
        f"CREATE POLICY placements_not_erased ON placements AS RESTRICTIVE FOR INSERT TO {WORKER}"
        " WITH CHECK (NOT EXISTS (SELECT FROM erased_tenants e WHERE e.id = tenant_id))"
    )
    op.execute(
        f"CREATE POLICY placements_erased ON placements AS RESTRICTIVE FOR DELETE TO {APP}"
        f" USING ((SELECT EXISTS (SELECT FROM erased_tenants WHERE id = {OWN})))"
    )
