#!/bin/sh
# What docker-compose.prod.yml needs on its machine, made once and completed later: folders with their owners, secrets,
# a file for settings. Run as root beside docker-compose.prod.yml, before the first start and before each update.
#
# Secrets of your Meta app go first: write them to CONFIG_FOLDER/secrets/all/AEROSTIC_META_APP_SECRET and
# …/AEROSTIC_META_VERIFY_TOKEN; a verify token is made where you give none.
set -eu
cd "$(dirname "$0")/../.."
ENGINE=${ENGINE:-docker}
if [ -e .env ]; then
    set -a
    # shellcheck disable=SC1091
    . ./.env
    set +a
fi
CONFIG_FOLDER=${CONFIG_FOLDER:-/etc/aerostic}
DATA_FOLDER=${DATA_FOLDER:-/var/lib/aerostic}
BACKUP_FOLDER=${BACKUP_FOLDER:-/var/backups/aerostic}
image="${IMAGE_REPOSITORY:?set IMAGE_REPOSITORY}/svc-auth:${IMAGE_TAG:?set IMAGE_TAG}"

umask 077
mkdir -p "$CONFIG_FOLDER/secrets/all" "$DATA_FOLDER/postgres" "$DATA_FOLDER/nats" "$DATA_FOLDER/letsencrypt" \
    "$DATA_FOLDER/certificates" "$BACKUP_FOLDER"
mkdir -p -m 755 "$DATA_FOLDER/acme"
chmod 755 "$DATA_FOLDER" "$DATA_FOLDER/acme"
if [ ! -s "$CONFIG_FOLDER/secrets/all/AEROSTIC_META_APP_SECRET" ]; then
    echo "prepare: write the app secret of your Meta app to $CONFIG_FOLDER/secrets/all/AEROSTIC_META_APP_SECRET" >&2
    exit 1
fi
if [ ! -e "$CONFIG_FOLDER/settings.env" ]; then
    echo "# Settings of all processes, one NAME=value a line: docs/settings.md has them." > "$CONFIG_FOLDER/settings.env"
fi
# PostgreSQL's image gives root up before the server starts: its account must be able to pass through.
chown 999:999 "$DATA_FOLDER/postgres"
# The processes' account owns what they read and what backups write.
chown -R 10001:10001 "$CONFIG_FOLDER/secrets" "$BACKUP_FOLDER"
"$ENGINE" run --rm --network none --read-only --cap-drop ALL --entrypoint python \
    --volume "$PWD/deploy/compose/secrets.json:/plan.json:ro" --volume "$CONFIG_FOLDER/secrets:/secrets" \
    "$image" -m kit.provisioning /plan.json --folder /secrets
