"""Erasing a workspace's people: the mark, what may be deleted of a marked workspace, and users who are left in none.

The mark stays; it holds an id and nobody's personal data. Nobody joins or enters a marked workspace any more.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

APP = "auth_app"
OWN_TENANT = "(SELECT NULLIF(current_setting('app.tenant_id', true), '')::uuid)"
MARKED = f"(SELECT EXISTS (SELECT FROM erased_tenants WHERE id = {OWN_TENANT}))"


def upgrade() -> None:
    op.execute("CREATE TABLE erased_tenants (id uuid PRIMARY KEY, erased_at timestamptz NOT NULL DEFAULT now())")
    op.execute(f"GRANT SELECT, INSERT ON erased_tenants TO {APP}")
    for table in ("memberships", "sessions", "invitations"):
        op.execute(
            f"CREATE POLICY {table}_not_erased ON {table} AS RESTRICTIVE FOR INSERT TO {APP}"
            f" WITH CHECK (NOT EXISTS (SELECT FROM erased_tenants e WHERE e.id = {table}.tenant_id))"
        )
    op.execute(
        f"CREATE POLICY memberships_erased ON memberships AS RESTRICTIVE FOR DELETE TO {APP}"
        f" USING (tenant_id = {OWN_TENANT} AND {MARKED})"
    )
    op.execute(f"GRANT DELETE ON memberships TO {APP}")
    # Sessions are otherwise seen by their user alone. Refresh tokens go with their session.
    for verb in ("SELECT", "DELETE"):
        op.execute(
            f"CREATE POLICY sessions_erased_{verb.lower()} ON sessions FOR {verb} TO {APP}"
            f" USING (tenant_id = {OWN_TENANT} AND {MARKED})"
        )
    op.execute("CREATE INDEX sessions_by_tenant ON sessions (tenant_id)")
    erase_registration()
    erase_users()


def erase_registration() -> None:
    create_function(
        "erase_registration(erased uuid)",
        returns="bigint",
        body="""
        WITH gone AS (
            DELETE FROM registrations r USING erased_tenants e WHERE r.id = erased AND e.id = erased RETURNING 1
        )
        SELECT count(*) FROM gone
        """,
    )


def erase_users() -> None:
    """Of these, whoever is a member of no workspace any more and runs no installation."""
    create_function(
        "erase_users(ids uuid[])",
        returns="bigint",
        body="""
        WITH gone AS (
            DELETE FROM users u WHERE u.id = ANY (ids) AND NOT u.is_super_admin
                AND NOT EXISTS (SELECT FROM memberships m WHERE m.user_id = u.id)
            RETURNING 1
        )
        SELECT count(*) FROM gone
        """,
    )


def create_function(signature: str, *, returns: str, body: str) -> None:
    """What the application may do beyond its own rights, and nothing more."""
    op.execute(
        f"CREATE FUNCTION {signature} RETURNS {returns} LANGUAGE sql VOLATILE SECURITY DEFINER"
        f" SET search_path = pg_catalog, public, pg_temp AS $${body}$$"
    )
    name = signature.partition("(")[0]
    op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {name} TO {APP}")
