"""Users, memberships, sessions, registrations, signing keys and failed log-ins.

Users are of the installation: one person may be a member of several workspaces. What belongs to a workspace or to a
person's session is under forced row-level security: a statement sees rows of the transaction's tenant or of its user.
"""

from alembic import op

from kit.migrations.tables import create_outbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APP = "auth_app"

# Before anybody is signed in there is neither tenant nor user, and these match nothing.
OWN_TENANT = "tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid"
OWN_USER = "user_id = NULLIF(current_setting('app.user_id', true), '')::uuid"


def upgrade() -> None:
    people()
    sessions()
    keys_and_throttles()
    for statement in create_outbox(writers=[APP], relay_role=APP):
        op.execute(statement)


def people() -> None:
    op.execute(
        """
        CREATE TABLE users (
            id uuid PRIMARY KEY,
            -- Lower case: e-mails differ by more than case.
            email text NOT NULL UNIQUE CHECK (email = lower(email)),
            name text NOT NULL,
            password_hash text NOT NULL,
            is_super_admin boolean NOT NULL DEFAULT false,
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON users TO {APP}")
    op.execute(
        """
        CREATE TABLE memberships (
            tenant_id uuid NOT NULL,
            user_id uuid NOT NULL REFERENCES users (id),
            role text NOT NULL CHECK (role IN ('admin', 'agent')),
            created_at timestamptz NOT NULL DEFAULT now(),
            entered_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant_id, user_id)
        )
        """
    )
    op.execute("CREATE INDEX memberships_by_user ON memberships (user_id)")
    protect("memberships", f"{OWN_TENANT} OR {OWN_USER}", "SELECT, INSERT, UPDATE")
    # A registration is the promise that a workspace and its first admin will both exist; its id is the tenant's.
    op.execute(
        """
        CREATE TABLE registrations (
            id uuid PRIMARY KEY,
            user_id uuid NOT NULL,
            email text NOT NULL CHECK (email = lower(email)),
            name text NOT NULL,
            password_hash text NOT NULL,
            workspace_name text NOT NULL,
            state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'completed')),
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE UNIQUE INDEX registrations_one_pending ON registrations (email) WHERE state = 'pending'")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON registrations TO {APP}")


def sessions() -> None:
    op.execute(
        """
        CREATE TABLE sessions (
            id uuid PRIMARY KEY,
            user_id uuid NOT NULL REFERENCES users (id),
            -- Absent for super admins.
            tenant_id uuid,
            created_at timestamptz NOT NULL DEFAULT now(),
            revoked_at timestamptz,
            -- 'logged_out' or 'token_reused'
            revoked_because text
        )
        """
    )
    op.execute("CREATE INDEX sessions_by_user ON sessions (user_id)")
    protect("sessions", OWN_USER, "SELECT, INSERT, UPDATE, DELETE")
    # All refresh tokens of a session are one family. Only hashes are kept.
    op.execute(
        """
        CREATE TABLE refresh_tokens (
            hash bytea PRIMARY KEY,
            session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
            user_id uuid NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            used_at timestamptz
        )
        """
    )
    op.execute("CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id)")
    protect("refresh_tokens", OWN_USER, "SELECT, INSERT, UPDATE, DELETE")


def keys_and_throttles() -> None:
    op.execute(
        """
        CREATE TABLE signing_keys (
            kid text PRIMARY KEY,
            public_key bytea NOT NULL,
            -- The private key's seed, sealed by the installation's key ring.
            sealed_seed bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            signs_from timestamptz NOT NULL,
            -- When a later key took over signing; the key verifies until the last of its tokens has expired.
            replaced_at timestamptz
        )
        """
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON signing_keys TO {APP}")
    op.execute(
        """
        CREATE TABLE login_failures (
            -- "email:<sha256>" or "address:<ip>"
            subject text PRIMARY KEY,
            failures integer NOT NULL,
            first_at timestamptz NOT NULL DEFAULT now(),
            blocked_until timestamptz
        )
        """
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON login_failures TO {APP}")


def protect(table: str, visible: str, privileges: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY {table}_own ON {table} TO {APP} USING ({visible}) WITH CHECK ({visible})")
    op.execute(f"GRANT {privileges} ON {table} TO {APP}")
