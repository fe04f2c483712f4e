#!/bin/sh
# Publishes COUNT JSON values to CHANNEL over HTTP with curl, each once however often it is sent.
#   publish-http.sh CHANNEL [COUNT]        server: LAVVA_HTTP, LAVVA_KEY
set -eu
channel=$1 count=${2:-1} run=$(date +%s)-$$
for n in $(seq "$count"); do
  curl -sS --fail-with-body --retry 5 "http://${LAVVA_HTTP:-localhost:8080}/v1/channels/$channel/messages?key=curl" \
    -H "Authorization: Bearer $LAVVA_KEY" -H 'Content-Type: application/json' \
    -H "Idempotency-Key: $run-$n" -d "{\"n\":$n}" >/dev/null || exit 3
done
echo "$count acknowledged"
