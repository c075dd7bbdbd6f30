-- Empties a database before a backup comes back, within the restore's transaction: what a later release added goes too.
-- `public` comes anew as every new database has it, which is what dumps build on; owner and rights are in the dump.
SET client_min_messages = warning;

DO $$
DECLARE
    schema name;
BEGIN
    FOR schema IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', schema);
    END LOOP;
END
$$;

CREATE SCHEMA public AUTHORIZATION pg_database_owner;
GRANT USAGE ON SCHEMA public TO PUBLIC;
