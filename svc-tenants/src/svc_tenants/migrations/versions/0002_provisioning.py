"""What the operator asks and does: all tenants with what they use, in one question, and new display names."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APP = "tenants_app"


def upgrade() -> None:
    op.execute(f"GRANT UPDATE (display_name) ON tenants TO {APP}")
    op.execute(
        """
        CREATE FUNCTION tenant_records(slugs text[], after uuid, most integer)
        RETURNS TABLE (
            id uuid, slug text, display_name text, state text, suspension_reason text,
            created_at timestamptz, updated_at timestamptz, connected_numbers bigint
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        SELECT t.id, t.slug, t.display_name, t.state, t.suspension_reason, t.created_at, t.updated_at,
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
