#!/bin/sh
# Publishes COUNT values to TOPIC at QoS 1, over one connection.
#   publish.sh TOPIC [COUNT]        server: LAVVA_MQTT, LAVVA_APP, LAVVA_KEY
set -eu
topic=$1 count=${2:-1} at=${LAVVA_MQTT:-localhost:1883}
host=${at%:*} port=${at##*:}
host=${host#[} host=${host%]}
seq "$count" | mosquitto_pub -V 5 -h "$host" -p "$port" -u "$LAVVA_APP" -P "$LAVVA_KEY" \
  -q 1 -t "$topic" -l
echo "$count published"
