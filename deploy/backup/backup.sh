#!/bin/sh
# One backup of the services' databases, or one a day for ever: `backup.sh` or `backup.sh --every HOURS`.
#
# Each is a folder BACKUPS/<UTC time> with a dump per database (pg_dump's own format, compressed) and their checksums. It
# appears under its name when it is whole, and every dump has been read back before. Older ones than KEEP_DAYS go, but the
# newest three stay. PGHOST, PGUSER and PASSWORD_FILE say where from.
set -eu
BACKUPS=${BACKUPS:-/backups}
KEEP_DAYS=${KEEP_DAYS:-14}
if [ -n "${PASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$PASSWORD_FILE")
    export PGPASSWORD
fi

backup() {
    name=$(date -u +%Y-%m-%dT%H%M%SZ)
    unfinished="$BACKUPS/.unfinished-$name"
    mkdir -p "$unfinished"
    for database in ${DATABASES:-auth tenants messaging}; do
        pg_dump --format custom --no-password --file "$unfinished/$database.dump" "$database"
        pg_restore --list "$unfinished/$database.dump" > /dev/null
    done
    (cd "$unfinished" && sha256sum -- *.dump > SHA256SUMS)
    sync
    mv "$unfinished" "$BACKUPS/$name"
    touch "$BACKUPS/.last-success"
    echo "backup $name: $(du -sk "$BACKUPS/$name" | cut -f 1) KB"
}

forget() {
    find "$BACKUPS" -mindepth 1 -maxdepth 1 -type d -name '.unfinished-*' -mmin +720 -exec rm -rf {} +
    find "$BACKUPS" -mindepth 1 -maxdepth 1 -type d -name '20*Z' | sort -r | tail -n +4 | while read -r old; do
        find "$old" -maxdepth 0 -mtime "+$KEEP_DAYS" -exec rm -rf {} +
    done
}

if [ "${1:-}" = --every ]; then
    while :; do
        # A process of its own: in a condition the shell goes on after a command that fails, whatever `set -e` says.
        if ! sh "$0"; then echo "backup failed; trying again in ten minutes" >&2; sleep 600; continue; fi
        sleep $(($2 * 3600))
    done
fi
backup
forget
