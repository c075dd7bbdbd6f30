"""Tenants, their WhatsApp accounts with encrypted tokens, the audit log, and the outbox.

The application's role lives inside one tenant: forced row-level security on every table, `tenants` included. What must
look across tenants are four questions, each a SECURITY DEFINER function that answers it and nothing more (ADR 0015).
The functions run as the owner, whom policies let read three tables; tokens, data keys and the audit log have no such
policy, so that no function, present or future, can carry them across.
"""

from alembic import op

from kit.migrations.tables import create_outbox, protect_tenant_table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APP = "tenants_app"
OWNER = "tenants_owner"


def upgrade() -> None:
    tenants()
    whatsapp_accounts()
    tokens()
    audit_log()
    for statement in create_outbox(writers=[APP], relay_role=APP):
        op.execute(statement)
    list_tenants()
    tenant_states()
    number_owners()
    waba_is_in_use()


def tenants() -> None:
    op.execute(
        """
        CREATE TABLE tenants (
            id uuid PRIMARY KEY,
            slug text NOT NULL CONSTRAINT tenants_slug UNIQUE,
            display_name text NOT NULL,
            state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
            suspension_reason text NOT NULL DEFAULT '',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT tenants_suspended_with_reason CHECK ((state = 'suspended') = (suspension_reason <> ''))
        )
        """
    )
    op.execute("CREATE INDEX tenants_by_age ON tenants (created_at DESC, id DESC)")
    # The table's key is the tenant itself; otherwise the belt is that of protect_tenant_table.
    own = "id = (SELECT current_setting('app.tenant_id')::uuid)"
    op.execute("ALTER TABLE tenants ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE tenants FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenants_tenant ON tenants TO {APP} USING ({own}) WITH CHECK ({own})")
    op.execute(f"GRANT SELECT, INSERT, UPDATE (state, suspension_reason, updated_at) ON tenants TO {APP}")
    let_functions_read("tenants")


def whatsapp_accounts() -> None:
    # A row outlives its disconnection, so that a number that comes back has the id that conversations know.
    op.execute(
        """
        CREATE TABLE whatsapp_accounts (
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            id uuid NOT NULL,
            phone_number_id text NOT NULL,
            waba_id text NOT NULL,
            display_phone_number text NOT NULL,
            verified_name text NOT NULL,
            state text NOT NULL CHECK (state IN ('ready', 'attention')),
            quality_rating text NOT NULL,
            messages_per_second integer NOT NULL CHECK (messages_per_second > 0),
            -- [{"step", "state", "detail"}]
            checks jsonb NOT NULL,
            -- Counts every token the number ever had here.
            token_version bigint NOT NULL DEFAULT 1,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            disconnected_at timestamptz,
            PRIMARY KEY (tenant_id, id),
            CONSTRAINT whatsapp_accounts_number UNIQUE (tenant_id, phone_number_id)
        )
        """
    )
    op.execute("CREATE INDEX whatsapp_accounts_by_waba ON whatsapp_accounts (waba_id) WHERE disconnected_at IS NULL")
    protect("whatsapp_accounts", app="SELECT, INSERT, UPDATE")
    let_functions_read("whatsapp_accounts")
    # The directory of the installation: a row while a number is connected. Its key is what makes a number belong to
    # one tenant at a time; a unique index does not care who may see the row that stands in the way.
    op.execute(
        """
        CREATE TABLE connected_numbers (
            phone_number_id text PRIMARY KEY,
            tenant_id uuid NOT NULL,
            whatsapp_account_id uuid NOT NULL,
            FOREIGN KEY (tenant_id, whatsapp_account_id) REFERENCES whatsapp_accounts (tenant_id, id)
        )
        """
    )
    op.execute("CREATE INDEX connected_numbers_by_account ON connected_numbers (tenant_id, whatsapp_account_id)")
    protect("connected_numbers", app="SELECT, INSERT, DELETE")
    let_functions_read("connected_numbers")


def tokens() -> None:
    # A key that encrypts one tenant's tokens, itself encrypted with a key of the settings.
    op.execute(
        """
        CREATE TABLE data_keys (
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            id uuid NOT NULL,
            wrapped bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant_id, id)
        )
        """
    )
    protect("data_keys", app="SELECT, INSERT, UPDATE (wrapped)")
    op.execute(
        """
        CREATE TABLE whatsapp_tokens (
            tenant_id uuid NOT NULL,
            whatsapp_account_id uuid NOT NULL,
            data_key_id uuid NOT NULL,
            sealed bytea NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant_id, whatsapp_account_id),
            FOREIGN KEY (tenant_id, whatsapp_account_id) REFERENCES whatsapp_accounts (tenant_id, id),
            FOREIGN KEY (tenant_id, data_key_id) REFERENCES data_keys (tenant_id, id)
        )
        """
    )
    protect("whatsapp_tokens", app="SELECT, INSERT, UPDATE, DELETE")


def audit_log() -> None:
    # Added to, never changed.
    op.execute(
        """
        CREATE TABLE audit_log (
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            id uuid NOT NULL,
            happened_at timestamptz NOT NULL DEFAULT now(),
            -- Such as 'whatsapp_account.connected'.
            action text NOT NULL,
            -- Such as 'whatsappAccounts/<id>'.
            subject text NOT NULL,
            -- A user, or a process of ours by name.
            actor_user_id uuid,
            actor_name text NOT NULL,
            request_id text NOT NULL,
            detail jsonb NOT NULL,
            PRIMARY KEY (tenant_id, id)
        )
        """
    )
    protect("audit_log", app="SELECT, INSERT")


def list_tenants() -> None:
    create_function(
        "list_tenants(wanted_state text, created_before timestamptz, id_before uuid, most integer)",
        returns="SETOF tenants",
        body="""
        SELECT * FROM tenants
        WHERE (wanted_state = '' OR state = wanted_state)
          AND (created_before IS NULL OR (created_at, id) < (created_before, id_before))
        ORDER BY created_at DESC, id DESC
        LIMIT most
        """,
    )


def tenant_states() -> None:
    create_function(
        "tenant_states(ids uuid[])",
        returns="TABLE (tenant_id uuid, state text, display_name text)",
        body="SELECT id, state, display_name FROM tenants WHERE id = ANY (ids)",
    )


def number_owners() -> None:
    create_function(
        "number_owners(numbers text[])",
        returns=(
            "TABLE (phone_number_id text, tenant_id uuid, whatsapp_account_id uuid, waba_id text,"
            " display_phone_number text, tenant_state text)"
        ),
        body="""
        SELECT n.phone_number_id, n.tenant_id, n.whatsapp_account_id, a.waba_id, a.display_phone_number, t.state
        FROM connected_numbers n
        JOIN whatsapp_accounts a ON a.tenant_id = n.tenant_id AND a.id = n.whatsapp_account_id
        JOIN tenants t ON t.id = n.tenant_id
        WHERE n.phone_number_id = ANY (numbers)
        """,
    )


def waba_is_in_use() -> None:
    create_function(
        "waba_is_in_use(waba text)",
        returns="boolean",
        body="SELECT EXISTS (SELECT FROM whatsapp_accounts WHERE waba_id = waba AND disconnected_at IS NULL)",
    )


def create_function(signature: str, *, returns: str, body: str) -> None:
    """A question across tenants that only the application's role may ask."""
    op.execute(
        f"CREATE FUNCTION {signature} RETURNS {returns} LANGUAGE sql STABLE SECURITY DEFINER"
        f" SET search_path = pg_catalog, public, pg_temp AS $${body}$$"
    )
    name = signature.partition("(")[0]
    op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {name} TO {APP}")


def let_functions_read(table: str) -> None:
    """Let the owner, as whom functions run, read the rows of all tenants. FORCE keeps everything else from it."""
    op.execute(f"CREATE POLICY {table}_functions ON {table} FOR SELECT TO {OWNER} USING (true)")


def protect(table: str, *, app: str) -> None:
    for statement in protect_tenant_table(table, app_role=APP, app=app):
        op.execute(statement)
