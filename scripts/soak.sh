#!/usr/bin/env bash
# What `make soak` runs: rounds of kill -9 under load, and seeded fault runs of the log and sessions.
#   scripts/soak.sh      ROUNDS (300), SEEDS (5000), SEED (printed) and LIMIT seconds (3600) change it
# Output is kept in build-soak/. Exit code 0 when nothing acknowledged was lost and nothing reordered.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-/usr/bin/python3}
rounds=${ROUNDS:-300} seeds=${SEEDS:-5000} limit=${LIMIT:-3600}
seed=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
dir=build-soak code=0
mkdir -p $dir
[ -f $dir/build.ninja ] || CC=gcc meson setup $dir --buildtype=release >$dir/setup.log || {
  cat $dir/setup.log >&2; exit 1; }
ninja -C $dir >$dir/build.log || { tail -30 $dir/build.log >&2; exit 1; }
echo "soak: commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), seed $seed"

echo "soak: $seeds seeded fault runs"
t=$SECONDS
for sim in $dir/tests/sim/*-sim; do
  if timeout -k 10 "$limit" "$sim" --seeds "$seeds" --seed "$seed" >"$dir/${sim##*/}.log" 2>&1; then
    tail -3 "$dir/${sim##*/}.log"
  else
    code=1
    tail -60 "$dir/${sim##*/}.log"
  fi
done
echo "soak: fault runs took $((SECONDS - t)) s"

echo "soak: $rounds rounds of kill -9 under load"
t=$SECONDS
LAVVA_BIN=$PWD/$dir/lavva timeout -k 10 "$limit" "$PYTHON" tests/e2e/soak.py --rounds "$rounds" \
  --seed "$seed" 2>$dir/kill.err | tee $dir/kill.log
r=${PIPESTATUS[0]}
[ "$r" -eq 0 ] || { code=$r; tail -40 $dir/kill.err >&2; }
echo "soak: rounds took $((SECONDS - t)) s"
echo "soak: $([ $code -eq 0 ] && echo passed || echo "FAILED ($code)"), seed $seed"
exit $code
