#!/bin/sh
# Put a backup back: `restore.sh FOLDER [database …]`. The databases and roles must exist (deploy/postgres/roles.sh makes
# them), and no service may run: what the databases hold now is replaced, each in one transaction, all or nothing.
set -eu
folder=$1
shift
if [ -n "${PASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$PASSWORD_FILE")
    export PGPASSWORD
fi
(cd "$folder" && sha256sum --check --quiet SHA256SUMS)
for database in ${*:-auth tenants messaging}; do
    others=$(psql --no-psqlrc --tuples-only --no-align --dbname "$database" --command \
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
    if [ "$others" != 0 ]; then
        echo "$others connections to $database: stop the services first." >&2
        exit 1
    fi
    pg_restore --no-password --dbname "$database" --single-transaction --exit-on-error --clean --if-exists \
        "$folder/$database.dump"
    psql --no-psqlrc --quiet --dbname "$database" --command ANALYZE
    echo "restored $database"
done
