#!/usr/bin/env bash
# What `make test` runs once its packages are there: everything that proves the product, in steps.
#   scripts/test.sh [STEP…]     steps: tidy gcc asan tsan fuzz sim kill package (default: all, in this order)
#
#   tidy   the rules that a machine can check
#   gcc    build with gcc -Werror; unit tests
#   asan   build with clang -Werror, ASan and UBSan; unit and end-to-end tests against that binary
#   tsan   build with ThreadSanitizer; unit tests and the end-to-end tests marked tsan
#   fuzz   each fuzz target for a few seconds
#   sim    the log and the sessions over the faulty disk: 200 seeds
#   kill   10 rounds of kill -9 under load
#   package  the Debian package: built, looked at, and as root installed, used and purged
#
# Output goes to build-*/; here stands a line a step. A step that fails does not stop the others.
# The last line is the sum: `N passed, N failed`. FUZZ_SECONDS, SIM_SEEDS, KILL_ROUNDS, SEED and
# JOBS (end-to-end workers) change the sizes.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
PYTHON=${PYTHON:-/usr/bin/python3}
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(tidy gcc asan tsan fuzz sim kill package)
cores=$(nproc)
jobs=${JOBS:-$((cores + 1))}
passed=0 failed=0 started=$SECONDS
# The sanitizers of clang 14 want memory where a newer kernel's randomization may put libraries.
plain=()
setarch "$(uname -m)" -R true 2>/dev/null && plain=(setarch "$(uname -m)" -R)

# line WHAT PASSED FAILED SECONDS LOG
line() {
  printf '%-34s %5d passed %4d failed %5d s%s\n' "$1" "$2" "$3" "$4" \
    "$([ "$3" -eq 0 ] || echo "   see $5")"
  passed=$((passed + $2)) failed=$((failed + $3))
}
# tail_of LOG: what a person needs to see of a failed step
tail_of() { sed 's/^/    | /' "$1" | tail -"${2:-25}"; }

# one WHAT LIMIT LOG COMMAND…: a step that is one check
one() {
  local what=$1 limit=$2 log=$3 t=$SECONDS
  shift 3
  if timeout -k 10 "$limit" "$@" >"$log" 2>&1; then line "$what" 1 0 $((SECONDS - t)) "$log"; return 0; fi
  line "$what" 0 1 $((SECONDS - t)) "$log"
  tail_of "$log"
  return 1
}

# build DIR COMPILER [SETUP OPTION…]
build() {
  local dir=$1 cc=$2
  shift 2
  mkdir -p "$dir"
  # shellcheck disable=SC2016
  one "build with $cc ($dir)" 900 "$dir/build.log" env CC="$cc" bash -c '
    dir=$1; shift
    [ -f "$dir/build.ninja" ] || meson setup "$dir" "$@" || exit 1
    ninja -C "$dir"' _ "$dir" "$@"
}

# suite WHAT LIMIT DIR SUITE [VARIABLE=VALUE…]: the meson tests of one suite
suite() {
  local what=$1 limit=$2 dir=$3 name=$4 log=$3/test-$4.log t=$SECONDS ok bad
  shift 4
  timeout -k 10 "$limit" env "$@" "${plain[@]}" meson test -C "$dir" --no-rebuild --suite "$name" \
    --print-errorlogs --num-processes "$cores" >"$log" 2>&1
  local code=$?
  ok=$(sed -n 's/^Ok: *\([0-9]*\).*/\1/p' "$log")
  bad=$(sed -n 's/^\(Fail\|Unexpected Pass\|Timeout\): *\([0-9]*\).*/\2/p' "$log" |
    awk '{n += $1} END {print n + 0}')
  [ $code -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
  line "$what" "${ok:-0}" "$bad" $((SECONDS - t)) "$log"
  [ "$bad" -eq 0 ] || tail_of "$log" 60
}

# e2e WHAT LIMIT DIR DEADLINE [PYTEST OPTION…]: the end-to-end tests against DIR/lavva
e2e() {
  local what=$1 limit=$2 dir=$3 deadline=$4 t=$SECONDS log=$3/e2e.log xml=$root/$3/e2e.xml counts
  shift 4
  rm -f "$xml"
  timeout -k 20 "$limit" env LAVVA_BIN="$root/$dir/lavva" LAVVA_E2E_DEADLINE="$deadline" \
    "${plain[@]}" "$PYTHON" -m pytest -c tests/e2e/pytest.ini tests/e2e -n "$jobs" --dist load \
    --basetemp="$root/$dir/e2e" --junitxml="$xml" "$@" >"$log" 2>&1
  local code=$?
  counts=$("$PYTHON" - "$xml" <<'PY' 2>/dev/null
import sys, xml.etree.ElementTree as tree
s = next(tree.parse(sys.argv[1]).iter("testsuite"))
n, bad, skip = (int(s.get(k)) for k in ("tests", "failures", "skipped"))
bad += int(s.get("errors"))
print(max(0, n - bad - skip), bad)
PY
  ) || counts="0 1"
  # shellcheck disable=SC2086
  set -- $counts
  local bad=$2
  [ $code -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
  line "$what" "$1" "$bad" $((SECONDS - t)) "$log"
  [ "$bad" -eq 0 ] || { grep -E '^(FAILED|ERROR|!)' "$log" | cut -c1-180 | sed 's/^/    | /' | head -60; }
}

asan=(--buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false
  -Dc_args=-fno-sanitize-recover=undefined)
step_tidy() {
  mkdir -p build-gcc
  one "tidy" 120 build-gcc/tidy.log "$PYTHON" scripts/tidy.py
}
step_gcc() {
  build build-gcc gcc --buildtype=release || return
  suite "unit tests (gcc)" 300 build-gcc unit
}
step_asan() {
  build build-asan clang "${asan[@]}" || return
  suite "unit tests (ASan, UBSan)" 600 build-asan unit
  e2e "end to end (ASan, UBSan)" 900 build-asan 30
}
step_tsan() {
  build build-tsan clang --buildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false || return
  suite "unit tests (TSan)" 600 build-tsan unit TSAN_OPTIONS="suppressions=$root/tests/e2e/tsan.supp"
  e2e "end to end, short (TSan)" 300 build-tsan 40 -m tsan
}
step_fuzz() {
  local t=$SECONDS log=build-fuzz/fuzz.log ok bad
  mkdir -p build-fuzz
  timeout -k 10 900 scripts/fuzz.sh "${FUZZ_SECONDS:-8}" >"$log" 2>&1
  local code=$?
  ok=$(grep -c '^fuzz .*nothing found' "$log")
  bad=$(grep -c '^fuzz .*FAILED' "$log")
  [ $code -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
  line "fuzz targets, ${FUZZ_SECONDS:-8} s each" "$ok" "$bad" $((SECONDS - t)) "$log"
  [ "$bad" -eq 0 ] || tail_of "$log" 40
}
step_sim() {
  [[ " ${steps[*]} " == *" asan "* ]] || build build-asan clang "${asan[@]}" || return
  local sim name
  for sim in build-asan/tests/sim/*-sim; do
    name=${sim##*/}
    one "$name, ${SIM_SEEDS:-200} seeds" 600 "build-asan/$name.log" "${plain[@]}" "$sim" \
      --seeds "${SIM_SEEDS:-200}" --seed "${SEED:-1}" # the same each time; soak draws others
  done
}
step_kill() {
  [[ " ${steps[*]} " == *" gcc "* ]] || build build-gcc gcc --buildtype=release || return
  one "kill -9 under load, ${KILL_ROUNDS:-10} rounds" 300 build-gcc/kill.log \
    env LAVVA_BIN="$root/build-gcc/lavva" "$PYTHON" tests/e2e/soak.py \
    --rounds "${KILL_ROUNDS:-10}" ${SEED:+--seed "$SEED"}
}
step_package() {
  mkdir -p build-deb
  one "package, lintian" 600 build-deb/check.log scripts/package.sh --check || return
  if [ "$(id -u)" -ne 0 ] || [ -e /usr/bin/lavva ] || [ -e /var/lib/lavva ]; then
    echo "package not installed here: that takes root, and a machine without lavva"
    return
  fi
  one "package: install to purge" 120 build-deb/install.log scripts/package-test.sh
}

for s in "${steps[@]}"; do
  case "$s" in
  tidy | gcc | asan | tsan | fuzz | sim | kill | package) "step_$s" ;;
  *) echo "test.sh: no step '$s'" >&2; sed -n '3p' "$0" >&2; exit 64 ;;
  esac
done
echo "in $((SECONDS - started)) s:"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
