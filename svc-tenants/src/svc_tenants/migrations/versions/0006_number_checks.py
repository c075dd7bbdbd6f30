"""What Meta says of connected numbers, asked again and again: its words, when it was asked, and what is asked next.

Three more questions across tenants, each a function that answers it and nothing more (ADR 0015).
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

APP = "tenants_app"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE whatsapp_accounts
            ADD COLUMN number_status text NOT NULL DEFAULT '',
            ADD COLUMN name_status text NOT NULL DEFAULT '',
            ADD COLUMN messaging_limit text NOT NULL DEFAULT '',
            ADD COLUMN token_expires_at timestamptz,
            ADD COLUMN checked_at timestamptz,
            ADD COLUMN check_after timestamptz NOT NULL DEFAULT now()
        """
    )
    op.execute(
        "CREATE INDEX whatsapp_accounts_to_check ON whatsapp_accounts (check_after) WHERE disconnected_at IS NULL"
    )
    create_function(
        "due_checks(most integer)",
        returns="TABLE (tenant_id uuid, waba_id text, due_at timestamptz)",
        body="""
        SELECT a.tenant_id, a.waba_id, min(a.check_after)
        FROM whatsapp_accounts a JOIN tenants t ON t.id = a.tenant_id AND t.state <> 'deleting'
        WHERE a.disconnected_at IS NULL AND a.check_after <= now()
        GROUP BY a.tenant_id, a.waba_id
        ORDER BY 3
        LIMIT most
        """,
    )
    create_function(
        "numbers_by_check()",
        returns="TABLE (step text, state text, numbers bigint)",
        body="""
        SELECT c ->> 'step', c ->> 'state', count(*)
        FROM whatsapp_accounts a CROSS JOIN LATERAL jsonb_array_elements(a.checks) c
        WHERE a.disconnected_at IS NULL
        GROUP BY 1, 2
        """,
    )
    create_function(
        "number_records(after_tenant uuid, after_id uuid, most integer)",
        returns="SETOF whatsapp_accounts",
        body="""
        SELECT * FROM whatsapp_accounts
        WHERE disconnected_at IS NULL AND (after_tenant IS NULL OR (tenant_id, id) > (after_tenant, after_id))
        ORDER BY tenant_id, id
        LIMIT most
        """,
    )


def create_function(signature: str, *, returns: str, body: str) -> None:
    op.execute(
        f"CREATE FUNCTION {signature} RETURNS {returns} LANGUAGE sql STABLE SECURITY DEFINER"
        f" SET search_path = pg_catalog, public, pg_temp AS $${body}$$"
    )
    name = signature.partition("(")[0]
    op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {name} TO {APP}")
