#!/bin/sh
# Prints COUNT messages that match FILTER; the server keeps the session for an hour.
#   subscribe.sh FILTER [COUNT [ID]]        server: LAVVA_MQTT, LAVVA_APP, LAVVA_KEY
set -eu
filter=$1 count=${2:-1} id=${3:-example-shell} at=${LAVVA_MQTT:-localhost:1883}
host=${at%:*} port=${at##*:}
host=${host#[} host=${host%]}
exec mosquitto_sub -V 5 -h "$host" -p "$port" -u "$LAVVA_APP" -P "$LAVVA_KEY" \
  -q 1 -c -i "$id" -x 3600 -C "$count" -v -t "$filter"
