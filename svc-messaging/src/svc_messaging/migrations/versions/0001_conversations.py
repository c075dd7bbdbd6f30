"""Contacts, conversations, messages and media, with their tenant belts and the outbox.

Keys begin with the tenant, so that the schema can be distributed by tenant. Ids are UUIDv7: they grow with time, so
they order messages and could carve the message table into ranges of time. What must be unique without regard to time
(Meta's ids, request ids) therefore stands in tables of its own.
"""

from alembic import op

from kit.migrations.tables import create_outbox, protect_tenant_table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APP = "messaging_app"
WORKER = "messaging_worker"

STATUSES = "'received', 'queued', 'sending', 'unknown', 'accepted', 'sent', 'failed', 'delivered', 'read', 'played'"


def upgrade() -> None:
    contacts()
    conversations()
    messages()
    media()
    parked_events()
    for statement in create_outbox(writers=[APP, WORKER], relay_role=WORKER):
        op.execute(statement)


def contacts() -> None:
    op.execute(
        """
        CREATE TABLE contacts (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            name text NOT NULL DEFAULT '',
            username text NOT NULL DEFAULT '',
            phone text NOT NULL DEFAULT '',
            wa_id text NOT NULL DEFAULT '',
            user_id text NOT NULL DEFAULT '',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant_id, id)
        )
        """
    )
    # A contact is found by any of its identities; each belongs to one contact of the tenant.
    op.execute(
        """
        CREATE TABLE contact_identities (
            tenant_id uuid NOT NULL,
            kind text NOT NULL CHECK (kind IN ('user_id', 'wa_id', 'phone')),
            value text NOT NULL,
            contact_id uuid NOT NULL,
            PRIMARY KEY (tenant_id, kind, value),
            FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts (tenant_id, id) ON DELETE CASCADE
        )
        """
    )
    op.execute("CREATE INDEX contact_identities_by_contact ON contact_identities (tenant_id, contact_id)")
    protect("contacts", app="SELECT, INSERT, UPDATE", worker="SELECT, INSERT, UPDATE, DELETE")
    protect("contact_identities", app="SELECT, INSERT", worker="SELECT, INSERT, UPDATE, DELETE")


def conversations() -> None:
    op.execute(
        """
        CREATE TABLE conversations (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            contact_id uuid NOT NULL,
            whatsapp_account_id uuid NOT NULL,
            phone_number_id text NOT NULL,
            state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
            unanswered_count integer NOT NULL DEFAULT 0,
            last_message_id uuid,
            last_activity_at timestamptz NOT NULL DEFAULT now(),
            -- When the customer last wrote to this number, by Meta's clock but never in our future; in a conversation
            -- that follows a closed one, taken over from it. The 24-hour window counts from here.
            customer_wrote_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            closed_at timestamptz,
            PRIMARY KEY (tenant_id, id),
            FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts (tenant_id, id)
        )
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX conversations_one_open ON conversations (tenant_id, contact_id, phone_number_id)"
        " WHERE state = 'open'"
    )
    op.execute("CREATE INDEX conversations_by_activity ON conversations (tenant_id, last_activity_at DESC, id DESC)")
    op.execute("CREATE INDEX conversations_by_contact ON conversations (tenant_id, contact_id, id DESC)")
    protect("conversations", app="SELECT, INSERT, UPDATE", worker="SELECT, INSERT, UPDATE, DELETE")


def messages() -> None:
    op.execute(
        f"""
        CREATE TABLE messages (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            conversation_id uuid NOT NULL,
            contact_id uuid NOT NULL,
            whatsapp_account_id uuid NOT NULL,
            phone_number_id text NOT NULL,
            direction text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
            type text NOT NULL,
            -- Text body, or the caption of a media message.
            body text NOT NULL DEFAULT '',
            -- The rest of the content, in Meta's own form under the type's name; for texts previewUrl only.
            content jsonb,
            media_id uuid,
            -- 'sending' is internal: claimed by a sender, its outcome not recorded yet. REST shows it as 'queued'.
            status text NOT NULL CHECK (status IN ({STATUSES})),
            accepted_at timestamptz,
            sent_at timestamptz,
            delivered_at timestamptz,
            read_at timestamptz,
            played_at timestamptz,
            failed_at timestamptz,
            -- reason, metaCode, detail, advice
            failure jsonb,
            wamid text,
            reply_to_wamid text,
            reply_to_message_id uuid,
            sender_user_id uuid,
            request_id text NOT NULL DEFAULT '',
            -- Inbound: Meta's timestamp of the message.
            customer_sent_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            attempts integer NOT NULL DEFAULT 0,
            -- Outbound and waiting for a retry: when it is due.
            next_attempt_at timestamptz,
            PRIMARY KEY (tenant_id, id),
            FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
        ) WITH (fillfactor = 85)
        """
    )
    op.execute("CREATE INDEX messages_by_conversation ON messages (tenant_id, conversation_id, id DESC)")
    op.execute("CREATE INDEX messages_retry_due ON messages (next_attempt_at) WHERE next_attempt_at IS NOT NULL")
    op.execute(
        "CREATE INDEX messages_waiting ON messages (tenant_id, phone_number_id) WHERE status IN ('queued', 'sending')"
    )
    # Meta's id of a message, once per number: what makes a webhook's repetition harmless.
    op.execute(
        """
        CREATE TABLE wamids (
            tenant_id uuid NOT NULL,
            phone_number_id text NOT NULL,
            wamid text NOT NULL,
            message_id uuid NOT NULL,
            PRIMARY KEY (tenant_id, phone_number_id, wamid)
        )
        """
    )
    # What a caller's request id led to, so that its repetition sends nothing.
    op.execute(
        """
        CREATE TABLE send_requests (
            tenant_id uuid NOT NULL,
            request_id text NOT NULL,
            message_id uuid NOT NULL,
            -- SHA-256 of the content and its addressee.
            fingerprint bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant_id, request_id)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE reactions (
            tenant_id uuid NOT NULL,
            message_id uuid NOT NULL,
            direction text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
            emoji text NOT NULL,
            reacted_at timestamptz NOT NULL,
            PRIMARY KEY (tenant_id, message_id, direction)
        )
        """
    )
    protect("messages", app="SELECT, INSERT", worker="SELECT, INSERT, UPDATE")
    protect("wamids", app="SELECT", worker="SELECT, INSERT")
    protect("send_requests", app="SELECT, INSERT", worker="SELECT, DELETE")
    protect("reactions", app="SELECT", worker="SELECT, INSERT, UPDATE, DELETE")


def media() -> None:
    op.execute(
        """
        CREATE TABLE media (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            direction text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
            state text NOT NULL CHECK (state IN ('pending', 'ready', 'failed')),
            mime_type text NOT NULL,
            filename text NOT NULL DEFAULT '',
            size_bytes bigint NOT NULL DEFAULT 0,
            sha256 text NOT NULL DEFAULT '',
            failure text NOT NULL DEFAULT '',
            -- Inbound: the message it belongs to, the number that received it and Meta's id (kept 7 days there).
            -- Outbound: Meta's id after our upload (kept 30 days there), per sending number.
            message_id uuid,
            phone_number_id text NOT NULL DEFAULT '',
            meta_media_id text NOT NULL DEFAULT '',
            meta_uploaded_at timestamptz,
            attempts integer NOT NULL DEFAULT 0,
            next_attempt_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant_id, id)
        )
        """
    )
    op.execute(
        "CREATE INDEX media_fetch_due ON media (next_attempt_at) WHERE state = 'pending' AND direction = 'inbound'"
    )
    op.execute(
        """
        CREATE TABLE media_chunks (
            tenant_id uuid NOT NULL,
            media_id uuid NOT NULL,
            number integer NOT NULL,
            data bytea NOT NULL,
            PRIMARY KEY (tenant_id, media_id, number),
            FOREIGN KEY (tenant_id, media_id) REFERENCES media (tenant_id, id) ON DELETE CASCADE
        )
        """
    )
    # Files are compressed formats already.
    op.execute("ALTER TABLE media_chunks ALTER COLUMN data SET STORAGE EXTERNAL")
    protect("media", app="SELECT, INSERT, UPDATE", worker="SELECT, INSERT, UPDATE")
    protect("media_chunks", app="SELECT, INSERT, DELETE", worker="SELECT, INSERT, DELETE")


def parked_events() -> None:
    # Of the installation, not of a tenant: an unknown number has none. Only callers outside any tenant see it.
    op.execute(
        """
        CREATE TABLE parked_events (
            id uuid PRIMARY KEY,
            -- What the item is, so that its repetition is parked once.
            item_key text NOT NULL UNIQUE,
            reason text NOT NULL,
            detail text NOT NULL,
            phone_number_id text NOT NULL DEFAULT '',
            wamid text NOT NULL DEFAULT '',
            body text NOT NULL,
            stream_sequence bigint NOT NULL,
            received_at timestamptz NOT NULL,
            state text NOT NULL DEFAULT 'parked' CHECK (state IN ('parked', 'settled')),
            settled_at timestamptz
        )
        """
    )
    op.execute("CREATE INDEX parked_events_by_reason ON parked_events (reason, id DESC)")
    op.execute(
        "CREATE INDEX parked_events_by_wamid ON parked_events (phone_number_id, wamid)"
        " WHERE state = 'parked' AND wamid <> ''"
    )
    op.execute("ALTER TABLE parked_events ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE parked_events FORCE ROW LEVEL SECURITY")
    # Compared inside the SELECT: outside of it the planner would take the comparison for one that few rows pass, and
    # read the whole table for a page.
    op.execute(
        f"CREATE POLICY parked_events_platform ON parked_events TO {APP}"
        " USING ((SELECT current_setting('app.tenant_id') = ''))"
    )
    op.execute(f"CREATE POLICY parked_events_worker ON parked_events TO {WORKER} USING (true) WITH CHECK (true)")
    op.execute(f"GRANT SELECT ON parked_events TO {APP}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON parked_events TO {WORKER}")


def protect(table: str, *, app: str, worker: str) -> None:
    for statement in protect_tenant_table(table, app_role=APP, app=app, workers={WORKER: worker}):
        op.execute(statement)
