#!/bin/sh
# Runs beside nginx from its container's start: when the certificate changes, nginx takes the new one without dropping a
# connection.
set -eu
(
    known=$(cksum "$CERTIFICATES/fullchain.pem")
    while sleep "${RELOAD_SECONDS:-60}"; do
        now=$(cksum "$CERTIFICATES/fullchain.pem")
        if [ "$now" != "$known" ]; then
            nginx -s reload && known=$now
        fi
    done
) &
