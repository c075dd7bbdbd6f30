-- One service's roles and database. Run by psql as a superuser, once or again: a second run changes nothing but
-- passwords. The names and secrets come from the environment, where no process list shows them:
--
--   ROLES_SERVICE          auth, tenants, messaging: the prefix of the roles
--   ROLES_DATABASE         the database, usually the service's own name
--   ROLES_OWNER_PASSWORD   <service>_owner owns database and schema and runs the migrations
--   ROLES_APP_PASSWORD     <service>_app serves requests; row-level security holds it to the caller's tenant
--   ROLES_WORKER_PASSWORD  <service>_worker works across tenants by its own policies; empty: the service has none
--
-- The migrations grant tables to app and worker; here they may only connect and see the schema.
\set ON_ERROR_STOP on
\getenv service ROLES_SERVICE
\getenv database ROLES_DATABASE
\getenv owner_password ROLES_OWNER_PASSWORD
\getenv app_password ROLES_APP_PASSWORD
\getenv worker_password ROLES_WORKER_PASSWORD

-- Two runs at a time would both find a role missing. Held until this session ends.
SELECT pg_advisory_lock(hashtext('aerostic roles')) \g /dev/null

SELECT format('CREATE ROLE %I', role)
FROM (VALUES (:'service' || '_owner'), (:'service' || '_app'), (:'service' || '_worker')) AS wanted (role)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role)
  AND (role <> :'service' || '_worker' OR :'worker_password' <> '')
\gexec

SELECT format(
    'ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD %L', role, password
)
FROM (
    VALUES
        (:'service' || '_owner', :'owner_password'),
        (:'service' || '_app', :'app_password'),
        (:'service' || '_worker', :'worker_password')
) AS wanted (role, password)
WHERE password <> ''
\gexec

-- No service has business in the databases that every server brings along.
REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;

SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8''', :'database', :'service' || '_owner')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database')
\gexec

\connect :"database"

SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'database')
UNION ALL SELECT 'REVOKE ALL ON SCHEMA public FROM PUBLIC'
UNION ALL SELECT format('ALTER SCHEMA public OWNER TO %I', :'service' || '_owner')
UNION ALL SELECT format('GRANT CONNECT ON DATABASE %I TO %I', :'database', role) FROM pg_roles AS roles (role)
    WHERE role IN (:'service' || '_owner', :'service' || '_app', :'service' || '_worker')
UNION ALL SELECT format('GRANT USAGE ON SCHEMA public TO %I', role) FROM pg_roles AS roles (role)
    WHERE role IN (:'service' || '_app', :'service' || '_worker')
\gexec
