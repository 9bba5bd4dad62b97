# make run    serve handlers/ on 127.0.0.1:8000
# make test   format, lint, types, and all tests
# make bench  calls per second against a plain Tornado handler

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check bench clean

run: $(VENV)/run.stamp
	$(BIN)/gateway serve

test: check .venv-protobuf/test.stamp
	@command -v curl >/dev/null || { command -v apt-get >/dev/null && apt-get install -y -qq curl; } || \
		{ echo "The README's examples are tested with curl: install it, and try again"; exit 1; }
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report --fail-under=100 --include='gateway/codecs/*,gateway/faults.py,gateway/dispatch.py'

check: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/run.stamp
	$(BIN)/python -m benchmarks.calls

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; say which with: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "python3 has no venv module; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/run.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

# Servers of protobuf's generic services are written on a protobuf that is too old to stand beside a new one.
.venv-protobuf/test.stamp: tests/upstreams/requirements-protobuf.txt $(VENV)/bin/python
	$(BIN)/python -m venv --clear .venv-protobuf
	.venv-protobuf/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

clean:
	rm -rf $(VENV) .venv-protobuf build *.egg-info .coverage* .hypothesis .mypy_cache .ruff_cache
