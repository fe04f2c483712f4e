#!/usr/bin/env bash
# Fuzzes each parser with libFuzzer (clang), ASan and UBSan.
#   scripts/fuzz.sh [short|long|SECONDS] [TARGET…]     short: 5 s a target, long: 120 s
# New inputs collect in build-fuzz/corpus/TARGET, a crash in build-fuzz/crash/TARGET-…; the seed is
# printed. Exit 1 when a target found something.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-short}" in
short) secs=5 ;;
long) secs=120 ;;
*[!0-9]* | "") sed -n '2,5s/^# //p' "$0"; exit 64 ;;
*) secs=$1 ;;
esac
shift || true
build=build-fuzz
command -v clang >/dev/null || { echo "fuzz: clang is missing: run 'make deps' first" >&2; exit 69; }
[ -f $build/build.ninja ] || CC=clang meson setup $build --buildtype=debugoptimized -Dfuzz=true >/dev/null
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for f in tests/fuzz/fuzz_*.c; do t=${f##*/fuzz_}; targets+=("${t%.c}"); done
fi
ninja -C $build "${targets[@]/#/tests/fuzz/fuzz_}" >$build/build.log || {
  tail -30 $build/build.log >&2
  exit 1
}
seed=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
failed=0
for t in "${targets[@]}"; do
  mkdir -p "$build/corpus/$t" $build/crash
  dict=()
  [ -f "tests/fuzz/dict/$t.dict" ] && dict=("-dict=tests/fuzz/dict/$t.dict")
  log=$build/fuzz-$t.log
  if "$build/tests/fuzz/fuzz_$t" -seed="$seed" -max_total_time="$secs" -max_len=4096 -timeout=10 \
    -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$build/crash/$t-" "${dict[@]}" \
    "$build/corpus/$t" "tests/fuzz/corpus/$t" >"$log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "fuzz $t: ${runs:-0} inputs in $secs s, nothing found (seed $seed)"
  else
    failed=1
    echo "fuzz $t: FAILED (seed $seed), see $log" >&2
    tail -30 "$log" >&2
  fi
done
exit $failed
