#!/usr/bin/env bash
# Installs the package of dist/, runs the service's own command line as its user, publishes, reads,
# backs up, upgrades (the configuration stays), and purges; all of it must leave no trace.
# usage: package-test.sh        as root, on a machine without lavva (else it refuses)
set -euo pipefail
cd "$(dirname "$0")/.."
deb=$(ls dist/lavva_*.deb)
[ "$(id -u)" -eq 0 ] || { echo "package-test.sh: needs root to install a package" >&2; exit 69; }
for p in /var/lib/lavva /etc/lavva /usr/bin/lavva; do
  [ ! -e "$p" ] || { echo "package-test.sh: $p is there: not on this machine" >&2; exit 69; }
done
work=$(mktemp -d)
chmod 0755 "$work"
pid= policy=/usr/sbin/policy-rc.d made=
# shellcheck disable=SC2317
cleanup() {
  [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
  dpkg --purge lavva >/dev/null 2>&1 || true
  [ -z "$made" ] || rm -f "$policy"
  rm -rf "$work"
}
trap cleanup EXIT
if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; made=1; fi
step() { echo "package: $*"; }
fail() { echo "package: FAILED: $*" >&2; exit 1; }
as() { setpriv --reuid lavva --regid lavva --clear-groups "$@"; }

step install
dpkg -i "$deb" >"$work/install.log" 2>&1 || { cat "$work/install.log" >&2; exit 1; }
[ "$(stat -c '%U:%G %a' /var/lib/lavva)" = "lavva:lavva 750" ] || fail "data folder"
[[ "$(dpkg-query -W -f='${Conffiles}' lavva)" = *"/etc/lavva/lavva.yaml "* ]] || fail "no conffile"
lavva check --quiet /etc/lavva/lavva.yaml || fail "the configuration that is shipped"
[ "$(lavva version)" = "lavva $(dpkg-query -W -f='${Version}' lavva)" ] || fail "version"
! grep -Eq '0\.0\.0\.0|anonymous: *true' /etc/lavva/lavva.yaml || fail "open by default"
man -w lavva lavva.yaml >/dev/null 2>&1 || [ -e /usr/share/man/man1/lavva.1.gz ] ||
  grep -qs 'path-exclude.*man' /etc/dpkg/dpkg.cfg.d/* || fail "manual pages"
systemd-analyze verify /lib/systemd/system/lavva.service >"$work/verify" 2>&1 || { cat "$work/verify" >&2; fail unit; }

step start, as the unit does
port() { local p=$1; while [ -n "$(ss -Hltn "sport = :$p")" ]; do p=$((p + 1)); done; echo "$p"; }
mqtt=$(port 18831) http=$(port 18081)
key=$(lavva key new --id test)
sed -n '/^- id/,$s/^/    /p' <<<"$key" >"$work/lines"
sed -e '/^    keys: \[\]/{s/ \[\]//;r '"$work/lines" -e '}' \
  -e "s/127.0.0.1:1883/127.0.0.1:$mqtt/; s/127.0.0.1:8080/127.0.0.1:$http/" \
  /etc/lavva/lavva.yaml >"$work/new" && cp "$work/new" /etc/lavva/lavva.yaml
secret=$(head -1 <<<"$key")
start=$(sed -n 's/^ExecStart=//p' /lib/systemd/system/lavva.service)
check=$(sed -n 's/^ExecStartPre=//p' /lib/systemd/system/lavva.service)
# shellcheck disable=SC2086
as $check || fail "check"
# The server itself is the job, so that it gets the signals.
start() {
  # shellcheck disable=SC2086
  (exec setpriv --reuid lavva --regid lavva --clear-groups $start) >"$work/server.log" 2>&1 &
  pid=$!
}
up() { for _ in $(seq 300); do kill -0 "$pid" || break; curl -fs "http://127.0.0.1:$http/readyz" >/dev/null && return; sleep 0.1; done; cat "$work/server.log" >&2; fail "not ready"; }
start
up

step publish and read
url="http://127.0.0.1:$http/v1/channels/demo/messages"
curl -s "$url?key=k" -H "Authorization: Bearer $secret" -d 21.5 >"$work/answer"
grep -q '"pos"' "$work/answer" || { cat "$work/answer" "$work/server.log" >&2; fail publish; }
[ "$(curl -s -o /dev/null -w '%{http_code}' "$url" -d 1)" = 401 ] || fail "without a key"
mosquitto_sub -h 127.0.0.1 -p "$mqtt" -u main -P "$secret" -t '#' -C 1 -W 20 -v >"$work/got" &
sub=$!
for _ in $(seq 200); do
  mosquitto_pub -h 127.0.0.1 -p "$mqtt" -u main -P "$secret" -t demo/k -m hello -q 1
  kill -0 "$sub" 2>/dev/null || break
done
wait "$sub" && [ "$(cat "$work/got")" = "demo/k hello" ] || fail "MQTT"

step backup while it runs, restore
lavva backup --data /var/lib/lavva -o "$work/b.tar.zst" --quiet || fail backup
[ -z "$(find /var/lib/lavva ! -user lavva)" ] || fail "backup left files that the server cannot use"

step upgrade
dpkg -i "$deb" >"$work/upgrade.log" 2>&1 || { cat "$work/upgrade.log" >&2; fail upgrade; }
grep -q "id: test" /etc/lavva/lavva.yaml || fail "the configuration was lost"
kill "$pid"; wait "$pid" || fail "it did not drain"
pid=
lavva restore "$work/b.tar.zst" --data /var/lib/lavva --force --quiet || fail restore
[ "$(stat -c '%U:%G %a' /var/lib/lavva)" = "lavva:lavva 750" ] || fail "owner of what was restored"
rm -rf /var/lib/lavva.old-*
start
up
kill "$pid"; wait "$pid" || fail "it did not drain"
pid=
[[ "$(lavva log dump demo --data /var/lib/lavva)" = *21.5* ]] || fail "the message is not in the restored log"

step remove, purge
dpkg -r lavva >/dev/null 2>&1 || fail remove
[ -e /etc/lavva/lavva.yaml ] && [ -d /var/lib/lavva ] || fail "remove took data or configuration"
dpkg --purge lavva >/dev/null 2>&1 || fail purge
for p in /etc/lavva /var/lib/lavva /usr/bin/lavva /lib/systemd/system/lavva.service; do
  [ ! -e "$p" ] || fail "purge left $p"
done
echo "package: all of it works"
