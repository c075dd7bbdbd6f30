"""SQL that migrations share: the tenant belt and the outbox table. Statements, not state: callers execute them."""

from collections.abc import Iterator, Mapping

_OWN = "tenant_id = (SELECT current_setting('app.tenant_id')::uuid)"


def protect_tenant_table(table: str, *, app_role: str, app: str, workers: Mapping[str, str] | None = None) -> list[str]:
    """Force row-level security on a table with `tenant_id`.

    `app_role` gets the privileges `app` (such as "SELECT, INSERT") on rows of the transaction's tenant. Each role of
    `workers` gets its privileges on the rows of all tenants, for processes that batch across them.
    """
    statements = [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        # A missing setting raises and an empty one is no UUID, so a forgotten tenant is an error, never everything.
        f"CREATE POLICY {table}_tenant ON {table} TO {app_role} USING ({_OWN}) WITH CHECK ({_OWN})",
        f"GRANT {app} ON {table} TO {app_role}",
    ]
    for role, privileges in (workers or {}).items():
        statements += [
            f"CREATE POLICY {table}_{role} ON {table} TO {role} USING (true) WITH CHECK (true)",
            f"GRANT {privileges} ON {table} TO {role}",
        ]
    return statements


def create_outbox(*, writers: list[str], relay_role: str) -> Iterator[str]:
    """The outbox: what a transaction wants published. Writers only add; the relay reads and deletes."""
    yield (
        "CREATE TABLE outbox ("
        " id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " message_id uuid NOT NULL,"
        " subject text NOT NULL,"
        " headers jsonb NOT NULL,"
        " data bytea NOT NULL,"
        " created_at timestamptz NOT NULL DEFAULT now())"
        # Rows live for milliseconds: clean up by count, not by a share of a table that is empty most of the time.
        " WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000)"
    )
    for role in writers:
        yield f"GRANT INSERT ON outbox TO {role}"
    yield f"GRANT SELECT, DELETE ON outbox TO {relay_role}"
