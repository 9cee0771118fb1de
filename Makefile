# Pulse. `make` prints the targets.
VENV := .venv
BIN := $(VENV)/bin
# The first Python 3.11 or newer that runs; `make PYTHON=... ` names another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Extras keep their brackets: without them pip takes coverage[toml] for another, unpinned package.
COMPILE_OPTIONS = --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-annotate \
	--custom-compile-command "make lock"
COMPILE = uv pip compile pyproject.toml --group build $(COMPILE_OPTIONS)

.DEFAULT_GOAL := help
.PHONY: help run bench bench-growth performance bench-gateway bench-proxy test unit coverage lint types mutants \
	vectors charts contracts clients check simulate faults soak reliability format lock clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## start everything: embedded Postgres, gateway, API and workers in one process
	@exec $(BIN)/pulse up

# The files with tests that depend on time: looking for the marker in all others takes seconds.
TIMED = $(shell grep -rl --include='test_*.py' 'pytest\.mark\.timing' tests)

# Three workers keep two cores busy: each waits for a server or a process a third of the time. Files
# run in their order, the slow ones first. pytest exits with 5 where PYTEST_ARGS select nothing.
test: $(VENV)/.dev ## run all tests: those that depend on time one at a time, then the others in parallel
	@failed=0; \
	$(BIN)/pytest -m timing $(or $(PYTEST_ARGS),$(TIMED)) || [ $$? = 5 ] || failed=1; \
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not timing and not simulation" \
		$(PYTEST_ARGS) || [ $$? = 5 ] || failed=1; \
	exit $$failed

unit: $(VENV)/.dev ## run the unit tests
	$(BIN)/pytest -n 2 -q tests/unit $(PYTEST_ARGS)

simulate: $(VENV)/.dev ## the simulation's own tests, then a minute of it; SEED=n runs one schedule again
	$(if $(SEED),,$(BIN)/pytest -n 2 -q -m simulation tests/simulation)
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seconds $(or $(SECONDS),60)) \
		$(if $(FIRST),--first $(FIRST))

faults: $(VENV)/.dev ## break a running Pulse in every way it promises to survive: FAULT="kills" SHORT=1 SEED=n
	$(BIN)/python -m tests.faults $(FAULT) $(if $(SHORT),--short) $(if $(TWICE),--twice) $(if $(SEED),--seed $(SEED))

reliability: $(VENV)/.dev ## write the tables of docs/explanation/reliability.md from what the fault suite found
	$(BIN)/python -m tests.faults.page

soak: $(VENV)/.dev ## an hour at half load, and look what grows; MINUTES=n RATE=orders a second
	$(BIN)/python -m tests.faults soak --times $(or $(MINUTES),60) $(if $(RATE),--rate $(RATE))

clients: $(VENV)/.dev $(VENV)/clients/.installed ## generate clients of the OpenAPI documents, type-check and run them (needs npm)
	$(BIN)/pytest -q tests/acceptance/test_generated_clients.py

check: lint types contracts coverage test ## what CI runs, but for simulation, faults, benchmarks and a second Postgres

coverage: $(VENV)/.dev ## every branch of the domain is taken by its tests
	$(BIN)/pytest -q tests/unit/domain --cov=pulse.domain --cov-branch --cov-fail-under=100 \
		--cov-report=term:skip-covered

lint: $(VENV)/.dev ## ruff, formatting included
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

mutants: $(VENV)/.dev ## change the domain a thousand times; its tests must find it (20 minutes)
	rm -rf mutants
	$(BIN)/mutmut run || true
	$(BIN)/python tests/mutants/check.py

vectors: $(VENV)/.dev ## write the conformance vectors again; nothing changes by it
	$(BIN)/python -m tests.conformance.vectors > docs/reference/conformance/new.json
	mv docs/reference/conformance/new.json docs/reference/conformance/splitting-v1.json

charts: $(VENV)/.dev ## draw the documentation's charts again
	$(BIN)/python docs/charts.py
	$(BIN)/pulse splitter show --total 1000 --splits 20 --duration 60 --seed 7 --svg docs/images/schedule.svg

contracts: $(VENV)/.dev ## check which package imports which, and which names which table
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -q tests/unit/test_table_ownership.py

bench: $(VENV)/.dev ## all but growth that is measured, beside floors and peers; PART="append post" SMOKE=1
	$(BIN)/python -m benchmarks $(PART) $(if $(SMOKE),--smoke) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(JSON),--json $(JSON))

performance: $(VENV)/.dev ## write the tables of docs/explanation/performance.md from what the benchmarks found
	$(BIN)/python -m benchmarks.page

bench-growth: $(VENV)/.dev ## append, POST, a read, drain at 0, 1 and 10 million events (a quarter of an hour)
	$(BIN)/python -m benchmarks growth $(if $(SMOKE),--smoke) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(JSON),--json $(JSON))

bench-proxy: $(VENV)/.dev ## what slow callers cost behind the proxy (needs nginx)
	$(BIN)/python -m benchmarks.slow_clients

bench-gateway: $(VENV)/.run ## the gateway's rate beside the API's own (needs wrk)
	$(BIN)/python benchmarks/gateway.py

format: $(VENV)/.dev ## let ruff format and fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## pin the requirements again: what `make run` needs, and with it all of development (needs uv)
	$(COMPILE) --extra embedded -o requirements.txt
	$(COMPILE) --all-extras --group dev -c requirements.txt -o requirements-dev.txt
	uv pip compile --group clients $(COMPILE_OPTIONS) -o tests/clients/requirements.txt

clean: ## remove the environment and caches (never the data)
	rm -rf $(VENV) mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Pulse needs Python 3.11 or newer; name one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

# The generators of clients have an environment of their own: openapi-python-client needs an older typer.
$(VENV)/clients/.installed: tests/clients/requirements.txt tests/clients/package-lock.json | $(VENV)/bin/python
	$(BIN)/python -m venv $(VENV)/clients/python
	$(VENV)/clients/python/bin/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes -r tests/clients/requirements.txt
	cp tests/clients/package.json tests/clients/package-lock.json $(VENV)/clients
	cd $(VENV)/clients && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@
