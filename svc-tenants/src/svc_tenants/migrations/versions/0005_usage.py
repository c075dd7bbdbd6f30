"""What tenants use, counted from events: how much on which day, and up to which event everything is counted.

Counts are of all tenants at once and the place in the stream is of none, so both are written by one function, in one
statement: either a batch of events is counted and the place behind it remembered, or neither (ADR 0024).
"""

from alembic import op

from kit.migrations.tables import protect_tenant_table

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

APP = "tenants_app"
OWNER = "tenants_owner"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE tenant_usage (
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            -- In UTC.
            day date NOT NULL,
            messages_received bigint NOT NULL,
            messages_sent bigint NOT NULL,
            messages_delivered bigint NOT NULL,
            messages_failed bigint NOT NULL,
            PRIMARY KEY (tenant_id, day)
        )
        """
    )
    for statement in protect_tenant_table("tenant_usage", app_role=APP, app="SELECT, DELETE"):
        op.execute(statement)
    op.execute(
        f"CREATE POLICY tenant_usage_erased ON tenant_usage AS RESTRICTIVE FOR DELETE TO {APP} USING"
        " ((SELECT state = 'deleting' FROM tenants WHERE id = (SELECT current_setting('app.tenant_id')::uuid)))"
    )
    op.execute(f"CREATE POLICY tenant_usage_functions ON tenant_usage FOR SELECT TO {OWNER} USING (true)")
    op.execute(f"CREATE POLICY tenant_usage_counted ON tenant_usage FOR INSERT TO {OWNER} WITH CHECK (true)")
    op.execute(f"CREATE POLICY tenant_usage_added ON tenant_usage FOR UPDATE TO {OWNER} USING (true) WITH CHECK (true)")
    # One row.
    op.execute(
        """
        CREATE TABLE usage_position (
            only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
            -- The last message of the stream that is counted, or needs no counting.
            sequence bigint NOT NULL,
            -- When the stream was made: another one begins its sequences anew.
            stream_created_at timestamptz
        )
        """
    )
    op.execute("INSERT INTO usage_position (sequence) VALUES (0)")
    op.execute(f"GRANT SELECT ON usage_position TO {APP}")
    count_usage()
    usage_between()


def count_usage() -> None:
    # False, and nothing done, where somebody else has moved the position since the caller read it.
    create_function(
        "count_usage(expected bigint, moved_to bigint, stream_created timestamptz, tenants uuid[], days date[],"
        " received bigint[], sent bigint[], delivered bigint[], failed bigint[])",
        returns="boolean",
        volatility="VOLATILE",
        body="""
        WITH moved AS (
            UPDATE usage_position SET sequence = moved_to, stream_created_at = stream_created
            WHERE sequence = expected
            RETURNING true
        ), counted AS (
            INSERT INTO tenant_usage AS u
                (tenant_id, day, messages_received, messages_sent, messages_delivered, messages_failed)
            SELECT g.* FROM unnest(tenants, days, received, sent, delivered, failed)
                AS g (tenant_id, day, received, sent, delivered, failed)
            -- A tenant that is erased needs no bill.
            JOIN tenants t ON t.id = g.tenant_id AND t.state <> 'deleting'
            WHERE EXISTS (SELECT FROM moved)
            ON CONFLICT (tenant_id, day) DO UPDATE SET
                messages_received = u.messages_received + excluded.messages_received,
                messages_sent = u.messages_sent + excluded.messages_sent,
                messages_delivered = u.messages_delivered + excluded.messages_delivered,
                messages_failed = u.messages_failed + excluded.messages_failed
        )
        SELECT EXISTS (SELECT FROM moved)
        """,
    )


def usage_between() -> None:
    create_function(
        "usage_between(wanted uuid, first date, last date)",
        returns=(
            "TABLE (messages_received bigint, messages_sent bigint, messages_delivered bigint, messages_failed bigint)"
        ),
        volatility="STABLE",
        body="""
        SELECT coalesce(sum(messages_received), 0)::bigint, coalesce(sum(messages_sent), 0)::bigint,
               coalesce(sum(messages_delivered), 0)::bigint, coalesce(sum(messages_failed), 0)::bigint
        FROM tenant_usage WHERE tenant_id = wanted AND day BETWEEN first AND last
        """,
    )


def create_function(signature: str, *, returns: str, volatility: str, body: str) -> None:
    op.execute(
        f"CREATE FUNCTION {signature} RETURNS {returns} LANGUAGE sql {volatility} SECURITY DEFINER"
        f" SET search_path = pg_catalog, public, pg_temp AS $${body}$$"
    )
    name = signature.partition("(")[0]
    op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {name} TO {APP}")
