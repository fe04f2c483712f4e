# Lavva's front door. The build itself is Meson's (meson.build); this file only names the jobs.
#   make            build build/lavva                make run     build, serve, publish, watch
#   make test       everything that proves it        make bench   us and our peers, side by side
#   make fuzz       fuzz each parser for longer      make soak    kill -9 rounds and disk faults
#   make tidy       the rules of CONTRIBUTING.md     make format  apply clang-format
#   make deps       install what is missing          make install install into PREFIX
#   make package    a Debian package in dist/
#   make docs       the generated ones               make screenshots  the pictures in docs/img
SHELL := /bin/bash
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
PYTHON ?= /usr/bin/python3
export PYTHON

.PHONY: all deps run test unit bench fuzz soak tidy format docs screenshots install package clean help
all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) lavva

help:
	@sed -n 's/^#   //p' Makefile

deps:
	@scripts/deps.sh build

$(BUILD)/build.ninja: meson.build
	@command -v meson >/dev/null || { echo "meson is missing: run 'make deps' first" >&2; exit 69; }
	meson setup $(BUILD) --buildtype=release --prefix=$(PREFIX) >/dev/null

run: deps
	@$(MAKE) --no-print-directory all
	@exec scripts/run.sh $(BUILD)/lavva

test:
	@scripts/deps.sh test
	@exec scripts/test.sh

unit: all
	@meson test -C $(BUILD) --print-errorlogs

bench:
	@scripts/deps.sh bench
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD)
	@exec bench/run --build $(BUILD)

fuzz:
	@scripts/deps.sh test
	@exec scripts/fuzz.sh long

soak:
	@scripts/deps.sh test
	@exec scripts/soak.sh

tidy:
	@$(PYTHON) scripts/tidy.py

format:
	@git ls-files '*.c' '*.h' | xargs -r clang-format -i

# Generated docs (a unit test and `make tidy` refuse stale ones).
docs: all
	@$(BUILD)/lavva check --schema-markdown >docs/config.md
	@$(PYTHON) scripts/kpi_doc.py --write

# By the browser that the tests drive.
screenshots: all
	@LAVVA_SCREENSHOTS=$(CURDIR)/docs/img LAVVA_BIN=$(CURDIR)/$(BUILD)/lavva $(PYTHON) -m pytest -q \
	  -c tests/e2e/pytest.ini tests/e2e/test_45_dashboard.py -k screenshots --timeout=300

install: all
	@meson introspect $(BUILD) --buildoptions | grep -q '"name": "prefix", "value": "$(PREFIX)"' || \
	  { meson configure $(BUILD) --prefix=$(PREFIX) && ninja -C $(BUILD) lavva; }
	@ninja -C $(BUILD) lavva manuals
	DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild

package:
	@scripts/deps.sh package
	@scripts/package.sh

clean:
	rm -rf build build-* dist
