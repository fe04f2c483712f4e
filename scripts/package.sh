#!/usr/bin/env bash
# Builds dist/lavva_VERSION_ARCH.deb, the version being that of meson.build.
# usage: package.sh [--check]     --check: lintian looks at it, errors count
#
# The sources are copied to build-deb/src (what git knows, and what is new), with packaging/debian as
# its debian/; the build folder is kept, so that a second package is quick.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
version=$(sed -n "s/^ *version: '\([0-9.]*\)'.*/\1/p" meson.build | head -1)
[ -n "$version" ] || { echo "package.sh: no version in meson.build" >&2; exit 1; }
stage=$root/build-deb/src
rm -rf "$stage"
mkdir -p "$stage" dist
git ls-files -co --exclude-standard -z | while IFS= read -r -d '' f; do [ -e "$f" ] && printf '%s\0' "$f"; done |
  tar --null -T - -cf - | tar -xf - -C "$stage"
cp -r "$stage/packaging/debian" "$stage/debian"
needs=$(scripts/deps.sh build --list | grep -vx -e gcc -e libc6-dev | paste -sd, | sed 's/,/, /g')
sed -i "s/@BUILD_DEPENDS@/debhelper-compat (= 13), $needs/" "$stage/debian/control"
date=$(date -R -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}")
printf 'lavva (%s) unstable; urgency=medium\n\n  * See /usr/share/doc/lavva/CHANGELOG.md.\n\n -- %s  %s\n' \
  "$version" "The Lavva authors <lavva@localhost>" "$date" >"$stage/debian/changelog"
echo CHANGELOG.md >>"$stage/debian/docs"
# The folder's name is in debug information only; the build's sources are the copy.
if [ -f build-deb/obj/build.ninja ] && ! grep -q "$stage" build-deb/obj/build.ninja; then rm -rf build-deb/obj; fi
log=$root/build-deb/package.log
if ! (cd "$stage" && LAVVA_BUILD=$root/build-deb/obj DEB_BUILD_OPTIONS=nocheck \
      dpkg-buildpackage -b -us -uc -d >"$log" 2>&1); then
  tail -40 "$log" >&2
  exit 1
fi
rm -f dist/*.deb
mv build-deb/lavva_"$version"_*.deb dist/
if [ "${1:-}" = --check ]; then
  lintian --fail-on error --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog dist/lavva_*.deb
fi
ls dist/lavva_"$version"_*.deb
