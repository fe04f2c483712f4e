#!/bin/sh
# Prints COUNT messages of CHANNEL, those that are kept first: Server-Sent Events with curl.
#   subscribe-sse.sh CHANNEL [COUNT]       server: LAVVA_HTTP, LAVVA_KEY
set -eu
channel=$1 count=${2:-10}
curl -sSN --fail "http://${LAVVA_HTTP:-localhost:8080}/v1/channels/$channel/events" \
  -H "Authorization: Bearer $LAVVA_KEY" |
  while [ "$count" -gt 0 ] && IFS= read -r line; do
    case $line in
    'data: '*'"typ":7'*)
      printf '%s\n' "${line#data: }"
      count=$((count - 1))
      ;;
    esac
  done
