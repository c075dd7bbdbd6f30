#!/bin/sh
# Bring the version in IMAGE_TAG to a running docker-compose.prod.yml, without an interruption.
#
# Migrations first: they only expand, so the old release serves on with the new schema. Then one process after the other:
# a second container of the new version starts, and when it is healthy and known to its callers the old one is told to
# stop and drains. It ends at the first failure with the old containers still there; run it again, or with the old
# IMAGE_TAG to go back.
set -eu
cd "$(dirname "$0")/../.."
SETTLE_SECONDS=${SETTLE_SECONDS:-12}
HEALTHY_SECONDS=${HEALTHY_SECONDS:-180}
DRAIN_SECONDS=35
compose() { docker compose --file docker-compose.prod.yml "$@"; }

until_healthy() {
    waited=0
    for container in "$@"; do
        while [ "$(docker inspect --format '{{.State.Health.Status}}' "$container")" != healthy ]; do
            if [ "$waited" -ge "$HEALTHY_SECONDS" ]; then
                docker logs --tail 20 "$container" >&2
                return 1
            fi
            sleep 1
            waited=$((waited + 1))
        done
    done
}

roll() {
    service=$1
    old=$(compose ps --quiet "$service")
    if [ -z "$old" ]; then
        compose up --detach --no-deps --wait "$service"
        return
    fi
    count=$(echo "$old" | wc -l)
    compose up --detach --no-deps --no-recreate --scale "$service=$((count * 2))" "$service"
    new=$(compose ps --quiet "$service" | grep -v -F -x "$old")
    # shellcheck disable=SC2086
    if ! until_healthy $new; then
        echo "update: the new $service is not healthy; it is taken away, the old one serves on" >&2
        docker rm --force $new > /dev/null
        exit 1
    fi
    # Callers ask for addresses anew every few seconds.
    sleep "$SETTLE_SECONDS"
    # shellcheck disable=SC2086
    docker stop --time "$DRAIN_SECONDS" $old > /dev/null
    # shellcheck disable=SC2086
    docker rm $old > /dev/null
    echo "update: $service is new"
}

compose pull --quiet --ignore-buildable
deploy/compose/prepare.sh
compose run --rm --no-deps databases
for service in auth tenants messaging; do
    compose run --rm --no-deps "migrate-$service"
done
for service in svc-auth svc-tenants messaging-server messaging-inbox messaging-sender webhooks-ingest gateway; do
    roll "$service"
done
# What is not of ours changes seldom; then it is replaced in place.
compose up --detach --no-deps --wait nginx certificates backup backup-streams
echo "update: done"
