"""Where a tenant's numbers are served: by everybody's workers, or by its own."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

APP = "tenants_app"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE tenants ADD COLUMN isolation text NOT NULL DEFAULT 'shared'"
        " CHECK (isolation IN ('shared', 'dedicated'))"
    )
    op.execute(f"GRANT UPDATE (isolation) ON tenants TO {APP}")
    tenant_records()


def tenant_records() -> None:
    op.execute("DROP FUNCTION tenant_records")
    op.execute(
        """
        CREATE FUNCTION tenant_records(slugs text[], after uuid, most integer)
        RETURNS TABLE (
            id uuid, slug text, display_name text, state text, suspension_reason text, isolation text,
            created_at timestamptz, updated_at timestamptz, connected_numbers bigint
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        SELECT t.id, t.slug, t.display_name, t.state, t.suspension_reason, t.isolation, t.created_at, t.updated_at,
               (SELECT count(*) FROM connected_numbers n WHERE n.tenant_id = t.id)
        FROM tenants t
        WHERE (slugs IS NULL OR t.slug = ANY (slugs)) AND (after IS NULL OR t.id > after)
        ORDER BY t.id
        LIMIT most
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION tenant_records FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION tenant_records TO {APP}")
