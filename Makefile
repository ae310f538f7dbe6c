# Two commands do all the set-up on a machine that has Python >= 3.11 and make:
#   make demo   mirror a sample registry, look at it in the Prefect UI, pull from it
#   make test   lint, types, floors and tests (make soak: the long ones; make bench: how fast)
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

SOAK   := $(addprefix tests/registry_server/,http/test_hostile.py http/test_hostile_wire.py http/test_killed_servers.py \
            store/filesystem/test_crash.py store/gc/test_gc_races.py store/gc/test_gc_hosts.py) \
          tests/benchmarks tests/farm tests/several_servers tests/flows/orchestration/work_pools tests/flows/engines/test_dask.py tests/flows/cli/test_shared_bucket.py \
          tests/tasks/destinations/test_killed.py tests/tasks/stored/test_killed_sweeps.py

.PHONY: demo test soak bench lint types unit lock release docs clean

demo: $(STAMP)
	$(BIN)/mirrorflow demo $(ARGS)

test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

unit: $(STAMP)
	$(BIN)/pytest --numprocesses 3 --no-loadscope-reorder $(ARGS)

# The long versions of the tests that race, kill and lie: two minutes of writers beside a collector, 200 kills of a
# server and 200 of two writers, 100,000 hostile requests. Some ten minutes, and not more than 45.
soak: $(STAMP)
	MIRRORFLOW_SLOW=1 MIRRORFLOW_SOAK=120 MIRRORFLOW_HOSTILE=100000 MIRRORFLOW_KILLS=200 timeout 45m $(BIN)/pytest \
	  --numprocesses auto --no-loadscope-reorder -rP $(SOAK) $(ARGS)

# Beside regsync, zot, crane, oras, skopeo, docker-registry, nginx and wrk, on a machine that does nothing else: some
# half an hour. `make bench ARGS=--small` only tries whether it runs; ARGS=serve runs one.
bench: $(STAMP)
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(STAMP)
	$(BIN)/python -m flows.cli.reference_docs docs/

# Exact versions with hashes, for every platform; run it after a change of the dependencies.
lock: $(STAMP)
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --group dev \
	  --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --constraint requirements.lock --extra aws --extra gcp --extra azure \
	  --custom-compile-command 'make lock' --output-file deploy/requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --constraint requirements.lock --group build \
	  --custom-compile-command 'make lock' --output-file deploy/build.lock

# What a release consists of, below dist/: docs/releasing.md says how it is checked, signed and published.
release: $(STAMP)
	rm -rf dist
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/pip install --quiet --disable-pip-version-check build cyclonedx-bom
	.venv-release/bin/python -m build --outdir dist .
	.venv-release/bin/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml \
	  --output-format JSON --output-file dist/mirrorflow.cdx.json deploy/requirements.lock
	$(BIN)/python -m deploy.release_notes "$$($(BIN)/python -m hatchling version)" > dist/NOTES.md
	cd dist && sha256sum * > SHA256SUMS

# --no-deps: the lock is complete, and pip 23 loses the pin of sqlalchemy[asyncio] when it resolves again.
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "mirrorflow needs Python 3.11 or newer; say which: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) .venv-release dist .mypy_cache .ruff_cache .pytest_cache
