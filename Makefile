# Every target works as the first command in a fresh clone: it makes what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The complete environment serves the sandbox too, where it is there.
SANDBOX_STAMP := $(or $(wildcard $(STAMP)),$(VENV)/.installed-for-sandbox)
# Processes that run tests. Most tests wait twice as long as they compute, so there are three for each processor.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(12, 3 * (os.cpu_count() or 1)))')

.PHONY: help setup check test bench bench-ingest bench-isolation bench-observe bench-registry chaos simulate simulate-mutants soak sandbox format manifests metrics lock lowest audit clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make the virtual environment .venv with everything, from the lock

# Installs one lock and the package. $(call install,LOCK,OPTIONS OF PIP)
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "error: no virtual environment could be made; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing $(1) into $(VENV), once ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(2) --require-hashes -r $(1)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
endef

$(STAMP): deploy/requirements-dev.lock pyproject.toml
	$(call install,deploy/requirements-dev.lock)

# Without compiling: the sandbox imports a small part of what it installs.
$(VENV)/.installed-for-sandbox: deploy/requirements-sandbox.lock pyproject.toml
	$(call install,deploy/requirements-sandbox.lock,--no-compile)

check: $(STAMP) ## Format, lint, types, layers and dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry .

# With bytecode, as otherwise every process that runs tests, or that a test starts, compiles the package and the tests anew.
test: $(STAMP) ## All tests with coverage; on a real Apache Kafka where Docker, or Java 17 and Maven, are there
	@rm -f .coverage .coverage.*
	env -u PYTHONDONTWRITEBYTECODE COVERAGE_PROCESS_START=pyproject.toml $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=100

bench: $(STAMP) ## Measure the worker: CPU per event, latency, memory, backlogs; ARGS="--against PATH" compares two checkouts; the last line is JSON
	@$(BIN)/python -m tests.bench $(ARGS)

chaos: $(STAMP) ## Kill and starve real workers on a real Kafka, then count what was lost or came twice; the last line is JSON (options: ARGS=--help)
	@$(BIN)/python -m tests.chaos $(ARGS)

simulate: $(STAMP) ## Play whole fleets in virtual time, with faults drawn from a seed; the last line is JSON (options: ARGS=--help)
	@$(BIN)/python -m tests.simulation $(ARGS)

simulate-mutants: $(STAMP) ## Let the simulation find each of many deliberate faults of the product; the last line is JSON (options: ARGS=--help)
	@$(BIN)/python -m tests.simulation.mutants $(ARGS)

soak: $(STAMP) ## Let destinations, sessions, partitions, connections and faults come and go, and fail if memory grows with them; the last line is JSON (options: ARGS="--minutes 8")
	@$(BIN)/python -m tests.soak $(ARGS)

bench-isolation: $(STAMP) ## Measure what healthy customers notice of hanging and throttling ones (options: ARGS=...)
	@$(BIN)/python -m tests.bench.isolation $(ARGS)

bench-ingest: $(STAMP) ## Measure events over HTTP on a real Kafka: latency and CPU per event; the last line is JSON (options: ARGS=...)
	@$(BIN)/python -m tests.bench.ingest $(ARGS)

bench-observe: $(STAMP) ## Measure what metrics and logs cost per event, and a scrape; the last line is JSON (options: ARGS=...)
	@$(BIN)/python -m tests.bench.observe $(ARGS)

bench-registry: $(STAMP) ## Measure what many destinations cost to load and to change (options: ARGS=...)
	@$(BIN)/python -m tests.bench.registry $(ARGS)

sandbox: $(SANDBOX_STAMP) ## See it work: an embedded Kafka and AWS, events for several customers (options: ARGS=--keep)
	@$(BIN)/pushrail-stream sandbox $(ARGS)

format: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

metrics: $(STAMP) ## Write the tables of deploy/METRICS.md from the declarations in the code
	@$(BIN)/python -m tests.deploy.metrics_page

manifests: $(STAMP) ## Render the kustomize base and its components from the Helm chart
	@$(BIN)/python -m tests.deploy.manifests

lock: $(STAMP) ## Write the locks under deploy/ anew, with hashes and without index addresses
	$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --group dev --extra sandbox --extra tracing pyproject.toml -o deploy/requirements-dev.lock
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header -c deploy/requirements-dev.lock --extra tracing pyproject.toml -o deploy/requirements.lock
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header -c deploy/requirements-dev.lock --group build --extra sandbox pyproject.toml -o deploy/requirements-sandbox.lock

lowest: ## Test with the lowest versions of our direct dependencies that pyproject.toml allows (options: ARGS="tests/settings")
	$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile --quiet --python $(PYTHON) --resolution lowest-direct --no-annotate --no-header --extra sandbox --extra tracing pyproject.toml -o $(VENV)/lowest.txt
	$(VENV)/lock/bin/uv pip compile --quiet --python $(PYTHON) --no-annotate --no-header -c $(VENV)/lowest.txt --group dev --extra sandbox --extra tracing pyproject.toml -o $(VENV)/lowest-dev.txt
	$(VENV)/lock/bin/uv venv --quiet --clear --python $(PYTHON) $(VENV)/lowest
	$(VENV)/lock/bin/uv pip install --quiet --python $(VENV)/lowest -r $(VENV)/lowest-dev.txt
	$(VENV)/lock/bin/uv pip install --quiet --python $(VENV)/lowest --no-deps --no-build-isolation --editable .
	$(VENV)/lowest/bin/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# --strict: else a service that is away, or does not know a package, would pass as "nothing found".
audit: ## Ask PyPI for known vulnerabilities of what the image installs; fails as well when it cannot be asked
	$(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet pip-audit
	$(VENV)/audit/bin/pip-audit --strict --progress-spinner off --disable-pip --require-hashes -r deploy/requirements.lock

clean: ## Remove the virtual environment and everything the tools left
	rm -rf $(VENV) .cache .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
