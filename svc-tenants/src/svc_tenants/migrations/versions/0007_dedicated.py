"""Telling which tenants have workers of their own, with their numbers."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

APP = "tenants_app"


def upgrade() -> None:
    op.execute(
        """
        CREATE FUNCTION dedicated_tenants() RETURNS TABLE (tenant_id uuid, phone_number_ids text[])
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        SELECT t.id, ARRAY(SELECT n.phone_number_id FROM connected_numbers n WHERE n.tenant_id = t.id)
        FROM tenants t
        WHERE t.isolation = 'dedicated' AND t.state <> 'deleting'
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION dedicated_tenants FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION dedicated_tenants TO {APP}")
