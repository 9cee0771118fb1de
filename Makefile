# Pulse. `make` prints the targets.
VENV := .venv
BIN := $(VENV)/bin
# The first Python 3.11 or newer that is found; `make PYTHON=...` overrides it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# --no-strip-extras: without the brackets pip treats coverage[toml] as another, unpinned package.
COMPILE_OPTIONS = --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-annotate \
	--custom-compile-command "make lock"
COMPILE = uv pip compile pyproject.toml --group build $(COMPILE_OPTIONS)

# Without bytecode files each process compiles Pulse again, and each test worker all tests: 0.3 s
# and 6 s. Some containers set this variable.
unexport PYTHONDONTWRITEBYTECODE

# Python compiles the modules that it imports. Compiling whole packages would double the time of pip.
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --no-compile

.DEFAULT_GOAL := help
.PHONY: help run bench bench-growth performance bench-gateway bench-proxy test interop unit coverage lint types mutants \
	vectors charts screenshots contracts clients check release-check wheel-check sbom licenses simulate faults cluster \
	soak reliability format lock clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## start everything: embedded Postgres, gateway, API and workers in one process
	@exec $(BIN)/pulse up

# Only the files that have timing tests: collecting all other files takes seconds.
TIMED = $(shell grep -rl --include='test_*.py' 'pytest\.mark\.timing' tests)

# For two cores: each worker waits for a server or a process half of the time. Files run in order, the
# slow ones first. pytest exits with 5 if PYTEST_ARGS selects no tests.
WORKERS ?= 4
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
test: $(VENV)/.dev ## run the tests: first the timing tests one at a time, then the others; WORKERS=n
	@failed=0; \
	$(BIN)/pytest -m timing $(or $(PYTEST_ARGS),$(TIMED)) || [ $$? = 5 ] || failed=1; \
	$(BIN)/pytest $(PARALLEL) -m "not timing and not simulation" \
		$(or $(PYTEST_ARGS),--ignore=tests/interop) || [ $$? = 5 ] || failed=1; \
	exit $$failed

interop: $(VENV)/.dev ## run the tests with other programs (browsers, proxies, Prometheus, Go, Java, Node, ...) and with the previous release
	$(BIN)/pytest $(PARALLEL) tests/interop $(PYTEST_ARGS)

unit: $(VENV)/.dev ## run the unit tests, except those that depend on time
	$(BIN)/pytest -n 2 -q -m "not timing" tests/unit $(PYTEST_ARGS)

simulate: $(VENV)/.dev ## test the simulation, then run it for a minute; SEED=n repeats one run
	$(if $(SEED),,$(BIN)/pytest -n 2 -q -m simulation tests/simulation)
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seconds $(or $(SECONDS),60)) \
		$(if $(FIRST),--first $(FIRST))

faults: $(VENV)/.dev $(if $(findstring cluster,$(FAULT)),$(VENV)/cluster/.installed) ## inject the faults that Pulse must survive: FAULT="kills" SHORT=1 SEED=n TIMES=n
	$(BIN)/python -m tests.faults $(FAULT) $(if $(SHORT),--short) $(if $(TWICE),--twice) $(if $(SEED),--seed $(SEED)) \
		$(if $(TIMES),--times $(TIMES))

cluster: $(VENV)/.dev $(VENV)/cluster/.installed ## run a cluster in network namespaces until Ctrl-C (needs root, etcd, haproxy, postgresql-15)
	@$(BIN)/python -m tests.cluster

reliability: $(VENV)/.dev ## write the fault suite's results into docs/explanation/reliability.md
	$(BIN)/python -m tests.faults.page

soak: $(VENV)/.dev ## run an hour at half the peak load and check that nothing grows; MINUTES=n RATE=n (orders/s)
	$(BIN)/python -m tests.faults soak --times $(or $(MINUTES),60) $(if $(RATE),--rate $(RATE))

clients: $(VENV)/.dev $(VENV)/clients/.installed ## generate clients of the OpenAPI documents, type-check and run them (needs npm)
	$(BIN)/pytest -q tests/interop/test_generated_clients.py

release-check: $(VENV)/.dev $(VENV)/packaging/.installed ## check wheel and README as a user installs them; WITH="python3.12 ..."
	$(BIN)/python -m tests.release wheel readme $(foreach python,$(WITH),--python $(python))

wheel-check: $(VENV)/.dev $(VENV)/packaging/.installed ## only the wheel, in empty environments; WITH="python3.12 ..."
	$(BIN)/python -m tests.release wheel $(foreach python,$(WITH),--python $(python))

sbom: $(VENV)/.dev $(VENV)/packaging/.installed ## write the bill of materials (CycloneDX) into dist/
	$(BIN)/python -m tests.release sbom

licenses: $(VENV)/.dev $(VENV)/packaging/.installed ## check all licences, and write them into dist/
	$(BIN)/python -m tests.release licenses

check: lint types contracts coverage test interop ## what CI runs, except simulation, faults, benchmarks, release check, other Pythons and a second Postgres

coverage: $(VENV)/.dev ## check that the domain's tests cover every branch, without generated cases
	$(BIN)/pytest -n 2 -q -m "not hypothesis and not many_cases" tests/unit/domain --cov=pulse.domain --cov-branch --cov-fail-under=100 \
		--cov-report=term:skip-covered

lint: $(VENV)/.dev ## run ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## run mypy, strict
	$(BIN)/mypy

mutants: $(VENV)/.dev ## run mutation tests of the domain (20 minutes)
	rm -rf mutants
	$(BIN)/mutmut run || true
	$(BIN)/python tests/mutants/check.py

vectors: $(VENV)/.dev ## generate the conformance vectors; the result is always the same
	for version in 1 2; do \
	    $(BIN)/python -m tests.conformance.vectors $$version > docs/reference/conformance/new.json && \
	    mv docs/reference/conformance/new.json docs/reference/conformance/splitting-v$$version.json || \
	    exit 1; \
	done

charts: $(VENV)/.dev ## draw the charts of the documentation
	$(BIN)/python docs/charts.py
	$(BIN)/pulse splitter show --total 1000 --splits 20 --duration 60 --seed 7 --svg docs/images/schedule.svg

screenshots: $(VENV)/.dev ## take the screenshots of the documentation in the console's browser tests (needs chromium-headless-shell)
	PULSE_SCREENSHOTS=docs/images CI=true $(BIN)/pytest -q tests/interop/console

contracts: $(VENV)/.dev ## check the imports between packages, and which package uses which table
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -q tests/unit/test_table_ownership.py

bench: $(VENV)/.dev ## measure Pulse, lower bounds and other systems; PART="append post" SMOKE=1
	$(BIN)/python -m benchmarks $(PART) $(if $(SMOKE),--smoke) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(JSON),--json $(JSON))

performance: $(VENV)/.dev ## write the benchmark results into docs/explanation/performance.md
	$(BIN)/python -m benchmarks.page

bench-growth: $(VENV)/.dev ## measure append, POST, reads and drain at 0, 1 and 10 million events (15 minutes)
	$(BIN)/python -m benchmarks growth $(if $(SMOKE),--smoke) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(JSON),--json $(JSON))

bench-proxy: $(VENV)/.dev ## measure how slow callers affect others behind the proxy (needs nginx)
	$(BIN)/python -m benchmarks.slow_clients

bench-gateway: $(VENV)/.run ## compare the rates of the gateway and the API (needs wrk)
	$(BIN)/python benchmarks/gateway.py

format: $(VENV)/.dev ## format and fix the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## pin all requirements (needs uv)
	$(COMPILE) --extra embedded -o requirements.txt
	uv pip compile pyproject.toml $(COMPILE_OPTIONS) -c requirements.txt -o requirements-production.txt
	uv pip compile --group build $(COMPILE_OPTIONS) -c requirements.txt -o requirements-build.txt
	$(COMPILE) --all-extras --group dev -c requirements.txt -o requirements-dev.txt
	uv pip compile --group cluster $(COMPILE_OPTIONS) -o tests/cluster/requirements.txt
	uv pip compile --group clients $(COMPILE_OPTIONS) -o tests/clients/requirements.txt
	uv pip compile --group packaging $(COMPILE_OPTIONS) -o tests/release/requirements.txt

clean: ## remove the environment and caches, but not the data
	rm -rf $(VENV) mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Pulse needs Python 3.11 or newer; name one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements.txt
	$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@

# The client generators have a separate environment: openapi-python-client needs an older typer.
$(VENV)/clients/.installed: tests/clients/requirements.txt tests/clients/package-lock.json | $(VENV)/bin/python
	$(BIN)/python -m venv $(VENV)/clients/python
	$(VENV)/clients/python/bin/python $(PIP_INSTALL) --require-hashes \
		-r tests/clients/requirements.txt
	cp tests/clients/package.json tests/clients/package-lock.json $(VENV)/clients
	cd $(VENV)/clients && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

# Patroni has a separate environment of the system's Python, because the account postgres may execute
# that one. Its packages are compiled, because that account cannot write bytecode files there.
$(VENV)/cluster/.installed: tests/cluster/requirements.txt | $(VENV)/bin/python
	/usr/bin/python3 -m venv $(VENV)/cluster
	$(VENV)/cluster/bin/python $(filter-out --no-compile,$(PIP_INSTALL)) \
		--require-hashes -r tests/cluster/requirements.txt
	@touch $@

# The release tools have a separate environment, so that they change no version of the others.
$(VENV)/packaging/.installed: tests/release/requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m venv $(VENV)/packaging
	$(VENV)/packaging/bin/python $(PIP_INSTALL) --require-hashes \
		-r tests/release/requirements.txt
	@touch $@
