#!/usr/bin/env bash
# Installs the Debian packages that a target needs, or prints the one command that would.
# usage: deps.sh build|test|package|bench [--list]
#
# `build` is what `make` needs, `test` adds what `make test` runs, `bench` adds the peers that we
# are measured beside. Nothing happens (and nothing is slow) when all of it is there already.
set -euo pipefail

build=(gcc libc6-dev meson ninja-build pkg-config python3-minimal libuv1-dev libssl-dev libyaml-dev
       zlib1g-dev libjansson-dev libmosquitto-dev libsqlite3-dev libcurl4-openssl-dev libjs-dygraphs openssl)
test=(clang clang-format libclang-rt-14-dev llvm libcmocka-dev python3 python3-pytest
      python3-pytest-timeout python3-pytest-xdist
      python3-cryptography python3-jwt python3-jsonschema python3-msgpack python3-paho-mqtt python3-websocket
      python3-websockets python3-yaml prometheus python3-selenium chromium chromium-driver mosquitto
      mosquitto-clients curl procps iproute2)
bench=(mosquitto nats-server libwslay-dev nginx-light libnginx-mod-nchan)
build+=(libarchive-dev)
package=(debhelper dpkg-dev fakeroot git lintian)
test+=("${package[@]}" mandoc nodejs node-ws systemd tar zstd adduser)

case "${1:-build}" in
build) want=("${build[@]}") ;;
test) want=("${build[@]}" "${test[@]}") ;;
package) want=("${build[@]}" "${package[@]}") ;;
bench) want=("${build[@]}" "${test[@]}" "${bench[@]}") ;;
*) echo "deps.sh: unknown target '$1' (build, test, package or bench)" >&2; exit 64 ;;
esac

if [ "${2:-}" = --list ]; then printf '%s\n' "${want[@]}"; exit 0; fi
command -v dpkg-query >/dev/null || {
  echo "deps.sh: this is not a Debian system; install the equivalents of: ${want[*]}" >&2; exit 0; }
missing=()
for p in "${want[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "Lavva needs these Debian packages, and only root can install them. Run:" >&2
  echo "  sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
  exit 69
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Services of packages that are only tools here (mosquitto, nats-server, nginx) must not start.
policy=/usr/sbin/policy-rc.d made=
if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; made=1; fi
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
log=$(mktemp)
try() { apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1; }
if ! try; then
  { apt-get update -qq && try; } >>"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; exit 69; }
fi
rm -f "$log"
