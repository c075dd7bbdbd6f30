"""Contacts can be found by the beginnings of their names, usernames and numbers.

Each beginning that leads to a contact is a row: of "Maria López-Cruz" the terms "maria lopez cruz", "lopez cruz" and
"cruz". A search is then a range of a B-tree whatever is asked for, which row-level security does not stand in the way
of, since comparing texts tells nobody anything (leakproof). Triggers keep the terms, so that no statement that writes
contacts can forget to.

Contacts of before get their terms beside the traffic, a thousand at a time; what was cut short goes on where it was.
"""

from alembic import op
from sqlalchemy import text

from kit.migrations.tables import protect_tenant_table

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

APP = "messaging_app"
WORKER = "messaging_worker"
OWN = "(SELECT current_setting('app.tenant_id')::uuid)"

# The two functions set nothing, so that PostgreSQL makes them part of the statement that calls them.
#
# Accents are taken off, all that is no letter or digit parts words. Its own collation, as that of the database may know
# ASCII only.
_TEXT = """
    CREATE OR REPLACE FUNCTION contact_search_text(given text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT btrim(regexp_replace(
        regexp_replace(lower(normalize(left(given, 200), NFKD) COLLATE pg_c_utf8), '[\\u0300-\\u036f]', '', 'g'),
        '[^[:alnum:]]+', ' ', 'g'
    ))
    $$
"""
# From each of the first eight words of the name to its end, the same of the username, and the number's digits.
_TERMS = """
    CREATE OR REPLACE FUNCTION contact_search_terms(name text, username text, phone text) RETURNS SETOF text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT DISTINCT left(term, 100) FROM (
        SELECT array_to_string(words[place:], ' ') AS term
        FROM (VALUES (string_to_array(contact_search_text(name), ' ')),
                     (string_to_array(contact_search_text(username), ' '))) AS given (words),
             generate_series(1, least(8, cardinality(words))) AS place
        UNION ALL
        SELECT regexp_replace(phone, '[^0-9]', '', 'g')
    ) AS terms
    WHERE term <> ''
    $$
"""
_TRIGGER = """
    CREATE OR REPLACE FUNCTION keep_contact_terms() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            DELETE FROM contact_terms t USING written w
            WHERE t.tenant_id = w.tenant_id AND t.contact_id = w.id
              AND t.term NOT IN (SELECT contact_search_terms(w.name, w.username, w.phone));
        END IF;
        INSERT INTO contact_terms (tenant_id, contact_id, term)
        SELECT w.tenant_id, w.id, term FROM written w, contact_search_terms(w.name, w.username, w.phone) AS term
        ON CONFLICT DO NOTHING;
        RETURN NULL;
    END
    $$
"""
# The owner sees no row of a table with a belt, so that he needs policies while he reads the contacts of before.
_WHILE_FILLING = {
    "contacts_owner": "contacts FOR SELECT TO messaging_owner USING (true)",
    "contact_terms_owner_reads": "contact_terms FOR SELECT TO messaging_owner USING (true)",
    "contact_terms_owner_adds": "contact_terms FOR INSERT TO messaging_owner WITH CHECK (true)",
}
_OF_BEFORE = """
    WITH batch AS (
        SELECT tenant_id, id, name, username, phone FROM contacts
        WHERE (tenant_id, id) > (CAST(:tenant_id AS uuid), CAST(:id AS uuid)) ORDER BY tenant_id, id LIMIT 1000
    ), kept AS (
        INSERT INTO contact_terms (tenant_id, contact_id, term)
        SELECT b.tenant_id, b.id, term FROM batch b, contact_search_terms(b.name, b.username, b.phone) AS term
        ON CONFLICT DO NOTHING
    )
    SELECT tenant_id, id FROM batch ORDER BY tenant_id DESC, id DESC LIMIT 1
"""


def upgrade() -> None:
    for function in (_TEXT, _TERMS, _TRIGGER):
        op.execute(function)
    table()
    with op.get_context().autocommit_block():
        for verb in ("INSERT", "UPDATE"):
            op.execute(
                f"CREATE OR REPLACE TRIGGER contact_terms_{verb.lower()} AFTER {verb} ON contacts"
                " REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION keep_contact_terms()"
            )
        contacts_of_before()


def table() -> None:
    exists = "SELECT to_regclass('contact_terms') IS NOT NULL"
    if op.get_bind().execute(text(exists)).scalar():
        return
    op.execute(
        """
        CREATE TABLE contact_terms (
            tenant_id uuid NOT NULL,
            contact_id uuid NOT NULL,
            term text COLLATE "C" NOT NULL,
            PRIMARY KEY (tenant_id, contact_id, term),
            FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts (tenant_id, id) ON DELETE CASCADE
        )
        """
    )
    op.execute("CREATE INDEX contact_terms_by_term ON contact_terms (tenant_id, term, contact_id)")
    op.execute("ALTER TABLE contact_terms SET (autovacuum_vacuum_scale_factor = 0.05)")
    rights = "SELECT, INSERT, DELETE"
    for statement in protect_tenant_table("contact_terms", app_role=APP, app=rights, workers={WORKER: rights}):
        op.execute(statement)
    # As of all that a workspace has (0007): the server, which changes no contact, deletes in a marked one alone.
    op.execute(
        f"CREATE POLICY contact_terms_erased ON contact_terms AS RESTRICTIVE FOR DELETE TO {APP}"
        f" USING ((SELECT EXISTS (SELECT FROM erased_tenants WHERE id = {OWN})))"
    )


def contacts_of_before() -> None:
    for name, definition in _WHILE_FILLING.items():
        drop_policy(name, definition)
        op.execute(f"CREATE POLICY {name} ON {definition}")
    last = {"tenant_id": "00000000-0000-0000-0000-000000000000", "id": "00000000-0000-0000-0000-000000000000"}
    while found := op.get_bind().execute(text(_OF_BEFORE), last).first():
        last = {"tenant_id": str(found.tenant_id), "id": str(found.id)}
    for name, definition in _WHILE_FILLING.items():
        drop_policy(name, definition)


def drop_policy(name: str, definition: str) -> None:
    op.execute(f"DROP POLICY IF EXISTS {name} ON {definition.split(maxsplit=1)[0]}")
