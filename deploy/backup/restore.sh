#!/bin/sh
# Put a backup back: `restore.sh FOLDER [database …]`. The databases and roles must exist (deploy/postgres/roles.sh makes
# them), and no service may run: what the databases hold now is replaced, each in one transaction, all or nothing. Tables
# that the backup does not know, as a later release made them, go.
set -eu
here=$(dirname "$0")
folder=$1
shift
if [ -n "${PASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$PASSWORD_FILE")
    export PGPASSWORD
fi

# The end comes only after a dump that was read to its end: without it psql has nothing to commit.
statements() {
    echo "BEGIN;" && cat "$here/empty.sql" && pg_restore --file - "$1" && echo "COMMIT; SELECT 'restored';"
}

(cd "$folder" && sha256sum --check --quiet SHA256SUMS)
for database in ${*:-auth tenants messaging}; do
    others=$(psql --no-psqlrc --tuples-only --no-align --dbname "$database" --command \
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
         AND backend_type IS DISTINCT FROM 'autovacuum worker'")
    if [ "$others" != 0 ]; then
        echo "$others connections to $database: stop the services first." >&2
        exit 1
    fi
    end=$(statements "$folder/$database.dump" | psql --no-psqlrc --no-password --quiet --tuples-only --no-align \
        --variable ON_ERROR_STOP=1 --dbname "$database" | tail -n 1)
    if [ "$end" != restored ]; then
        echo "$database could not be restored, and is as it was." >&2
        exit 1
    fi
    psql --no-psqlrc --quiet --dbname "$database" --command ANALYZE
    echo "restored $database"
done
