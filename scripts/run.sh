#!/usr/bin/env bash
# What `make run` runs: a server, a publisher of this machine's telemetry, and a live view of both.
#   scripts/run.sh BINARY [OPTIONS OF serve…]
# Ends with Ctrl-C (or SIGTERM), and with it everything it started. The server's log is in
# lavva-data.log; its data stays in ./lavva-data.
set -uo pipefail
bin=$(realpath "$1") || exit 66
shift
data=lavva-data out=$(mktemp) log=lavva-data.log serve='' demo='' top='' code=0
for a in "$@"; do
  case "${prev:-}" in --data) data=$a log=$a.log ;; esac
  prev=$a
done

# stop PID SIGNAL SECONDS: ends one of our children, politely first
stop() {
  [ -n "$1" ] && kill -"$2" "$1" 2>/dev/null || return 0
  for ((i = 0; i < $3 * 20; i++)); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.05
  done
  kill -9 "$1" 2>/dev/null
  wait "$1" 2>/dev/null
}
finish() {
  trap '' INT TERM HUP
  stop "$top" TERM 2
  stop "$demo" TERM 2
  stop "$serve" TERM 15
  rm -f "$out"
  exit "$code"
}
trap finish INT TERM HUP

"$bin" serve "$@" >"$out" 2>"$log" </dev/null &
serve=$!
# The file is removed first and written once all listeners accept; it names the process.
until grep -qs "^LAVVA_PID=[\"']\?$serve[\"']\?$" "$data/dev.env"; do
  if ! kill -0 "$serve" 2>/dev/null; then
    echo "run: the server did not start:" >&2
    cat "$out" "$log" >&2
    wait "$serve"
    code=$?
    serve=''
    finish
  fi
  sleep 0.05
done
cat "$out"
"$bin" demo --data "$data" >>"$log" 2>&1 </dev/null &
demo=$!
"$bin" top --data "$data" <&0 &
top=$!
wait -n "$serve" "$demo" "$top"
code=$?
for p in serve demo top; do
  kill -0 "${!p}" 2>/dev/null || echo "run: $p ended ($code)" >&2
done
[ $code -eq 0 ] || tail -20 "$log" >&2
finish
