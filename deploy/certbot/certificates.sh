#!/bin/sh
# The certificate of app.DOMAIN, admin.DOMAIN and api.DOMAIN, in CERTIFICATES/fullchain.pem and privkey.pem.
#
#   certificates.sh once    make sure that there is one, so that nginx can start: a placeholder at first
#   certificates.sh now     issue or renew the real one, if it is time
#   certificates.sh         for ever: issue the real one, renew it; nginx sees the new file and reloads
#
# MODE=letsencrypt asks Let's Encrypt, staging its rehearsal, local an authority of our own (for tests, and for machines
# that the internet does not reach): its certificate, CERTIFICATES/authority.pem, is what browsers must be told to trust.
set -eu
CERTIFICATES=${CERTIFICATES:-/certificates}
LETSENCRYPT=${LETSENCRYPT:-/etc/letsencrypt}
WEBROOT=${WEBROOT:-/acme}
MODE=${MODE:-letsencrypt}
NAMES="app.$DOMAIN admin.$DOMAIN api.$DOMAIN"
RENEW_SECONDS=2592000

put() {
    # Both are written, the disk may be full, before either takes its place; nginx looks at the chain, which comes last.
    cp "$2" "$CERTIFICATES/.privkey.new"
    chmod 600 "$CERTIFICATES/.privkey.new"
    cp "$1" "$CERTIFICATES/.fullchain.new"
    sync
    mv "$CERTIFICATES/.privkey.new" "$CERTIFICATES/privkey.pem"
    mv "$CERTIFICATES/.fullchain.new" "$CERTIFICATES/fullchain.pem"
}

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

alternatives() { for name in $NAMES; do printf 'DNS:%s,' "$name"; done | sed 's/,$//'; }

placeholder() {
    folder=$(mktemp -d)
    key "$folder/key.pem"
    openssl req -x509 -new -key "$folder/key.pem" -days 7 -subj "/CN=placeholder.$DOMAIN" \
        -addext "subjectAltName=$(alternatives)" -out "$folder/chain.pem"
    put "$folder/chain.pem" "$folder/key.pem"
    rm -r "$folder"
    echo "a placeholder stands until the real certificate is there"
}

issue_local() {
    if [ ! -e "$CERTIFICATES/authority.pem" ]; then
        key "$CERTIFICATES/authority-key.pem"
        chmod 600 "$CERTIFICATES/authority-key.pem"
        openssl req -x509 -new -key "$CERTIFICATES/authority-key.pem" -days 3650 -subj "/CN=Aerostic local authority" \
            -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$CERTIFICATES/authority.pem"
    fi
    if openssl verify -CAfile "$CERTIFICATES/authority.pem" "$CERTIFICATES/fullchain.pem" > /dev/null 2>&1 &&
        openssl x509 -checkend "$RENEW_SECONDS" -noout -in "$CERTIFICATES/fullchain.pem" > /dev/null; then
        return
    fi
    folder=$(mktemp -d)
    key "$folder/key.pem"
    openssl req -new -key "$folder/key.pem" -subj "/CN=api.$DOMAIN" -out "$folder/request.pem"
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$(alternatives)" > "$folder/extensions"
    openssl x509 -req -in "$folder/request.pem" -days 90 -extfile "$folder/extensions" -CAcreateserial \
        -CA "$CERTIFICATES/authority.pem" -CAkey "$CERTIFICATES/authority-key.pem" -out "$folder/leaf.pem" 2> /dev/null
    cat "$folder/leaf.pem" "$CERTIFICATES/authority.pem" > "$folder/chain.pem"
    put "$folder/chain.pem" "$folder/key.pem"
    rm -r "$folder"
    echo "issued by the local authority"
}

issue_acme() {
    # A lineage for each of them: certbot would keep a rehearsal's certificate until it ends, for production too.
    lineage=aerostic
    staging=""
    if [ "$MODE" = staging ]; then lineage=aerostic-staging staging="--staging"; fi
    set --
    for name in $NAMES; do set -- "$@" --domain "$name"; done
    # Renews when less than a third of the life is left; does nothing otherwise.
    certbot certonly --non-interactive --agree-tos --email "$EMAIL" --webroot --webroot-path "$WEBROOT" \
        --cert-name "$lineage" --key-type ecdsa --keep-until-expiring --config-dir "$LETSENCRYPT" $staging "$@"
    live="$LETSENCRYPT/live/$lineage"
    if ! cmp -s "$live/fullchain.pem" "$CERTIFICATES/fullchain.pem"; then
        put "$live/fullchain.pem" "$live/privkey.pem"
        echo "a new certificate is in place"
    fi
}

issue() { if [ "$MODE" = local ]; then issue_local; else issue_acme; fi; }

mkdir -p "$CERTIFICATES"
if [ "${1:-}" = once ]; then
    [ -e "$CERTIFICATES/fullchain.pem" ] || placeholder
    [ "$MODE" = local ] && issue_local
    exit 0
fi
if [ "${1:-}" = now ]; then
    issue
    exit 0
fi
while :; do
    # A process of its own: in a condition the shell goes on after a command that fails, whatever `set -e` says. After a
    # failure not at once again: Let's Encrypt counts them.
    if sh "$0" now; then pause=43200; else echo "not issued; trying again in an hour" >&2; pause=3600; fi
    sleep "$pause" &
    wait $!
done
