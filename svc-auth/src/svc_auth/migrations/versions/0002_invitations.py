"""Invitations of first admins, and the one question across tenants: who the first admins are."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APP = "auth_app"
OWNER = "auth_owner"
OWN_TENANT = "tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE invitations (
            -- One at a time: a newer one replaces it.
            tenant_id uuid PRIMARY KEY,
            email text NOT NULL CHECK (email = lower(email)),
            token_hash bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL
        )
        """
    )
    op.execute("ALTER TABLE invitations ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE invitations FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY invitations_own ON invitations TO {APP} USING ({OWN_TENANT}) WITH CHECK ({OWN_TENANT})")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON invitations TO {APP}")
    for table in ("invitations", "memberships"):
        op.execute(f"CREATE POLICY {table}_functions ON {table} FOR SELECT TO {OWNER} USING (true)")
    op.execute(
        """
        CREATE FUNCTION first_admins(ids uuid[])
        RETURNS TABLE (tenant_id uuid, email text, state text, expires_at timestamptz)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        WITH joined AS (
            SELECT DISTINCT ON (m.tenant_id) m.tenant_id, u.email
            FROM memberships m JOIN users u ON u.id = m.user_id
            WHERE m.tenant_id = ANY (ids) AND m.role = 'admin'
            ORDER BY m.tenant_id, m.created_at, u.id
        )
        SELECT j.tenant_id, j.email, 'joined', NULL::timestamptz FROM joined j
        UNION ALL
        SELECT i.tenant_id, i.email, 'invited', i.expires_at FROM invitations i
        WHERE i.tenant_id = ANY (ids) AND NOT EXISTS (SELECT FROM joined j WHERE j.tenant_id = i.tenant_id)
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION first_admins FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION first_admins TO {APP}")
