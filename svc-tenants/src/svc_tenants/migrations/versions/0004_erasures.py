"""Erasing tenants: a third state, and the record that stays when a tenant is gone.

The application may delete a tenant's rows only once the tenant is being erased: a restrictive policy beside the belt,
so that no slip elsewhere in the code can. What it could delete before it still may.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

APP = "tenants_app"

STEPS = "'numbers', 'auth', 'messaging', 'events', 'check', 'tenant', 'done'"


def upgrade() -> None:
    op.execute("ALTER TABLE tenants DROP CONSTRAINT tenants_state_check")
    op.execute(
        "ALTER TABLE tenants ADD CONSTRAINT tenants_state_check CHECK (state IN ('active', 'suspended', 'deleting'))"
    )
    erasures()
    own = "(SELECT current_setting('app.tenant_id')::uuid)"
    is_being_erased = f"(SELECT state = 'deleting' FROM tenants WHERE id = {own})"
    let_delete("tenants", "state = 'deleting'")
    for table in ("whatsapp_accounts", "data_keys", "audit_log"):
        let_delete(table, is_being_erased)


def erasures() -> None:
    # Of the installation: it outlives the tenant, and holds nobody's personal data.
    op.execute(
        f"""
        CREATE TABLE tenant_erasures (
            tenant_id uuid PRIMARY KEY,
            slug text NOT NULL,
            -- A super admin's id, or the name of a process of ours.
            requester text NOT NULL,
            requested_at timestamptz NOT NULL DEFAULT now(),
            -- What is done next.
            step text NOT NULL DEFAULT 'numbers' CHECK (step IN ({STEPS})),
            -- Sort -> count.
            erased jsonb NOT NULL DEFAULT '{{}}',
            last_error text NOT NULL DEFAULT '',
            progressed_at timestamptz NOT NULL DEFAULT now(),
            done_at timestamptz,
            CONSTRAINT tenant_erasures_done CHECK ((step = 'done') = (done_at IS NOT NULL))
        )
        """
    )
    op.execute("CREATE INDEX tenant_erasures_by_age ON tenant_erasures (requested_at DESC, tenant_id DESC)")
    op.execute("CREATE INDEX tenant_erasures_open ON tenant_erasures (requested_at) WHERE done_at IS NULL")
    op.execute("ALTER TABLE tenant_erasures ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE tenant_erasures FORCE ROW LEVEL SECURITY")
    # Super admins and the worker, who are in no tenant, see all; whoever acts in one sees that one's.
    visible = (
        "(SELECT current_setting('app.tenant_id') = '')"
        " OR tenant_id = (SELECT NULLIF(current_setting('app.tenant_id'), '')::uuid)"
    )
    op.execute(
        f"CREATE POLICY tenant_erasures_own ON tenant_erasures TO {APP} USING ({visible}) WITH CHECK ({visible})"
    )
    op.execute(
        f"GRANT SELECT, INSERT, UPDATE (step, erased, last_error, progressed_at, done_at) ON tenant_erasures TO {APP}"
    )


def let_delete(table: str, condition: str) -> None:
    op.execute(f"CREATE POLICY {table}_erased ON {table} AS RESTRICTIVE FOR DELETE TO {APP} USING ({condition})")
    op.execute(f"GRANT DELETE ON {table} TO {APP}")
