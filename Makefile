# make run    serve handlers/ on 127.0.0.1:8000
# make test   format, lint, types, and all tests
# make each   make test with each Python from 3.11 to 3.13 that is installed, in environments of their own
# make dist   the wheel and the sdist, in dist/; tries the wheel in an empty environment, with tests of the sdist
# make reference  write docs/options.md and conf/gateway.toml from the options of the configuration
# make docs   the documentation as a site with a search, in build/site
# make bench  calls per second, memory and bridges, beside servers of Go, node and Python; ten minutes (ROUNDS=5 SECONDS=1)
# make simulate  how each way of balancing does with fleets that have something wrong with them; a minute, no sockets
# make drill  instances are killed, stopped and broken under 300 calls a second; a table of what became of the calls
# make figures  write what make bench has measured last into README.md and benchmarks/
# make compare  calls that block: other servers and the gateway side by side, with pictures; takes half an hour
# make fuzz  300,000 mutated documents for the readers and values for the writers of codecs, those in C under sanitizers;
#            FUZZ=... for another number
# make soak   everything at once for ten minutes (SOAK=3600: an hour); shows memory and descriptors of each process
# make edge   nginx in front of workers, on free ports, as the present user, with a certificate for localhost

PYTHON ?= python3
PYTHONS ?= python3.11 python3.12 python3.13
VENV := .venv
BIN := $(VENV)/bin
SOAK ?= 600
# Seconds after which a run of the tests that hangs is ended, and says what has failed before.
ENDS ?= 2400
ENDED := $(shell command -v timeout >/dev/null && echo timeout --signal=INT --kill-after=60 $(ENDS))
ROUNDS ?= 5
SECONDS ?= 1

# need PROGRAM,PACKAGE,PURPOSE: install a program that the tests run
need = PATH="$$PATH:/usr/local/sbin:/usr/sbin"; command -v $(1) >/dev/null || { command -v apt-get >/dev/null && \
	{ apt-get install -y -qq $(2) || { apt-get update -qq && apt-get install -y -qq $(2); }; } >/dev/null; } || \
	{ echo "$(3) is tested with $(1): install it (Debian's package is $(2)), and try again"; exit 1; }

# The programs that the tests run, each with Debian's package of it: a command, or a file where it is none. While they
# are installed, no service of theirs is started (policy-rc.d).
PROGRAMS := curl:curl systemd-analyze:systemd nginx:nginx openssl:openssl wrk:wrk thrift:thrift-compiler knotd:knot \
	/usr/share/java/zookeeper.jar:zookeeper chromium:chromium chromedriver:chromium-driver prometheus:prometheus \
	zsh:zsh fish:fish node:nodejs npm:npm

# The tests start hundreds of processes: without compiled modules, each of them would compile the gateway again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test programs environments types suite each check dist reference docs bench simulate drill figures compare soak fuzz edge clean

run: $(VENV)/run.stamp
	$(BIN)/gateway serve

# A build that fails leaves the codec in Python alone, and nobody would notice. The type checker uses one core for most of
# a minute, so it runs beside the tests.
test:
	@$(MAKE) --no-print-directory --jobs=3 programs environments
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@! command -v $(CC) >/dev/null || GATEWAY_CODEC=compiled $(BIN)/python -c 'import gateway.codecs' || \
		{ echo "the compiled codec was not built, and there is a compiler (are the headers of Python there?): $(BIN)/python -m pip install --editable . -v"; exit 1; }
	@$(MAKE) --no-print-directory --jobs=2 types suite

programs:
	@PATH="$$PATH:/usr/local/sbin:/usr/sbin"; missing=; for each in $(PROGRAMS); do \
		command -v $${each%:*} >/dev/null || test -e $${each%:*} || missing="$$missing $${each##*:}"; done; \
	$(PYTHON) -c 'import test.test_xmlrpc' 2>/dev/null || \
		missing="$$missing $$($(PYTHON) -c 'import sys; print("libpython%d.%d-testsuite" % sys.version_info[:2])')"; \
	install() { rc=/usr/sbin/policy-rc.d; test -e $$rc || { printf '#!/bin/sh\nexit 101\n' >$$rc && chmod +x $$rc && trap "rm -f $$rc" EXIT; }; \
		apt-get install -y -qq --no-install-recommends $$missing >/dev/null; }; \
	test -z "$$missing" || { command -v apt-get >/dev/null && { install || { apt-get update -qq && install; }; }; } || \
		{ echo "the tests run programs that are not here: install those of Debian's packages$$missing, and try again"; exit 1; }

# What the tests need beside the programs of Debian.
environments: $(VENV)/thrift.stamp .venv-zerorpc/stamp .venv-protobuf/stamp .venv-mcp/stamp .venv-node/stamp

types: $(VENV)/test.stamp
	$(BIN)/mypy

suite: $(VENV)/test.stamp
	$(ENDED) $(BIN)/python -m pytest --numprocesses 6 --dist loadfile --no-loadscope-reorder --cov --cov-report=
	$(BIN)/coverage report --fail-under=95 --format=total
	$(BIN)/coverage report --fail-under=100 --include='gateway/codecs/*,gateway/model/faults.py,gateway/core/dispatch.py'

each:
	@for python in $(PYTHONS); do if ! $$python -c "" 2>/dev/null; then echo "$$python is not installed"; \
		else echo "$$python:"; $(MAKE) test PYTHON=$$python VENV=.venv-$$python || exit 1; fi; done

dist: $(VENV)/test.stamp
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m tests.packages dist

reference: $(VENV)/test.stamp
	$(BIN)/python -m docs.reference

docs: $(VENV)/test.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file docs/mkdocs/mkdocs.yml
	@echo "build/site/index.html is the first page; to search, serve them: $(BIN)/python -m http.server --directory build/site"

check: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: environments
	@$(call need,wrk,wrk,the speed)
	$(BIN)/python -m benchmarks.speed --rounds $(ROUNDS) --seconds $(SECONDS)
	$(BIN)/python -m benchmarks.callers --rounds $(ROUNDS) --seconds $(SECONDS)
	$(BIN)/python -m benchmarks.balancing --rounds $(ROUNDS) --seconds $(SECONDS)
	$(BIN)/python -m benchmarks.instances

simulate: $(VENV)/run.stamp
	$(BIN)/python -m benchmarks.simulate

figures: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks.speed --publish

compare: $(VENV)/test.stamp
	@$(call need,nginx,nginx,the edge)
	@$(call need,openssl,openssl,the edge)
	$(BIN)/python -m benchmarks.concurrency

FUZZED := FUZZ=$${FUZZ:-300000} $(BIN)/python -m pytest -o faulthandler_timeout=0 \
	tests/codecs/test_usual.py tests/codecs/test_usual_json.py tests/codecs/test_compiled.py
CODEC := gateway/codecs/xmlrpc/_compiled.c
SANITIZED := build/sanitized/_compiled.so

# CPython keeps much until it ends, so the tests look for leaks, and not the sanitizer.
fuzz: $(VENV)/test.stamp
	@if command -v $(CC) >/dev/null; then set -ex; mkdir -p build/sanitized; \
	$(CC) -shared -fPIC -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -Wall -Wextra -Werror \
		-isystem "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')" $(CODEC) -o $(SANITIZED); \
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
		PYTHONMALLOC=malloc SANITIZED_CODEC=$(SANITIZED) $(FUZZED); \
	else $(FUZZED); fi
	FUZZ=1 $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/codecs/test_properties.py tests/codecs/test_oracles.py \
		tests/endpoints/test_plain.py tests/upstreams/test_http2.py tests/upstreams/test_reading.py tests/upstreams/test_rpyc.py \
		tests/upstreams/test_thrift_idl.py tests/wire/test_framing.py

drill: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks.drill

soak: $(VENV)/test.stamp
	SOAK=$(SOAK) $(BIN)/python -m benchmarks.soak

edge: $(VENV)/run.stamp
	@$(call need,nginx,nginx,the edge)
	@$(call need,openssl,openssl,the edge)
	$(BIN)/python -m benchmarks.edge

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; say which with: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "python3 has no venv module; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/run.stamp: $(VENV)/bin/python pyproject.toml constraints.txt gateway/codecs/xmlrpc/_compiled.c
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

# What Apache's compiler makes of the tests' .thrift files, for the server of its own library.
$(VENV)/thrift.stamp: $(VENV)/test.stamp tests/upstreams/programs.thrift tests/upstreams/shapes.thrift | programs
	mkdir -p $(VENV)/thrift
	thrift -r --gen py -out $(VENV)/thrift tests/upstreams/programs.thrift
	@touch $@

# ZeroRPC's own library, with what it brings along.
.venv-zerorpc/stamp: $(VENV)/bin/python tests/upstreams/requirements-zerorpc.txt
	$(PYTHON) -m venv .venv-zerorpc
	.venv-zerorpc/bin/python -m pip install --quiet --disable-pip-version-check -r tests/upstreams/requirements-zerorpc.txt
	@touch $@

# Servers of protobuf's generic services are written on a protobuf that is too old to stand beside a new one.
.venv-protobuf/stamp: $(VENV)/bin/python tests/upstreams/requirements-protobuf.txt
	$(PYTHON) -m venv .venv-protobuf
	.venv-protobuf/bin/python -m pip install --quiet --disable-pip-version-check -r tests/upstreams/requirements-protobuf.txt
	@touch $@

# The SDK of agents in two versions, which have one name: the older one is in a folder, and shares the rest with the other.
.venv-mcp/stamp: $(VENV)/bin/python tests/agents/requirements.txt tests/agents/requirements-older.txt
	$(PYTHON) -m venv .venv-mcp
	.venv-mcp/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/agents/requirements.txt
	.venv-mcp/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/agents/requirements-older.txt \
		--upgrade --target .venv-mcp/older
	@touch $@

# ethers and the TypeScript SDK of agents, with what they bring along; none of their scripts is run.
.venv-node/stamp: tests/agents/node/package.json tests/agents/node/package-lock.json | programs
	mkdir -p .venv-node
	cp tests/agents/node/package.json tests/agents/node/package-lock.json .venv-node
	cd .venv-node && npm ci --ignore-scripts --omit=dev --omit=optional --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

clean:
	rm -rf $(VENV) $(PYTHONS:%=.venv-%) .venv-zerorpc .venv-protobuf .venv-mcp .venv-node build dist *.egg-info .coverage* .hypothesis .mypy_cache .ruff_cache
