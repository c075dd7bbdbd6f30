#!/bin/sh
# Databases and roles of every service, by roles.sql; again and again the same. Run where psql is, with PGHOST and PGUSER
# set, and the passwords as files: PASSWORDS/<name of the role> and PASSWORDS/superuser.
set -eu
folder=$(dirname "$0")
PGPASSWORD=$(cat "$PASSWORDS/superuser")
export PGPASSWORD PGDATABASE=postgres
until pg_isready --quiet --timeout 5; do sleep 1; done

# A second run finds what the first has made, so a connection that breaks on the way is no reason to give up.
roles() {
    for attempt in 1 2 3 4 5; do
        psql --no-psqlrc --quiet --file "$folder/roles.sql" && return
        sleep "$attempt"
    done
    return 1
}

for service in auth tenants messaging; do
    export ROLES_SERVICE="$service" ROLES_DATABASE="$service" ROLES_WORKER_PASSWORD=""
    ROLES_OWNER_PASSWORD=$(cat "$PASSWORDS/${service}_owner")
    ROLES_APP_PASSWORD=$(cat "$PASSWORDS/${service}_app")
    export ROLES_OWNER_PASSWORD ROLES_APP_PASSWORD
    if [ -e "$PASSWORDS/${service}_worker" ]; then
        ROLES_WORKER_PASSWORD=$(cat "$PASSWORDS/${service}_worker")
    fi
    roles
done
