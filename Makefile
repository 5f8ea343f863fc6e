# `make help` lists the targets. The environment is in .venv; touch requirements/dev.lock to create it again.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest
# The documentation's generator has an environment of its own.
DOCS := .cache/docs
# Further arguments for pytest: make unit ARGS="-k tracker -x"
ARGS ?=
# The smoke tests run on the embedded stack as well where Apache Kafka can be run.
STACK := $(if $(and $(shell command -v java),$(shell command -v mvn)),--stack both)

UVLOOP := $(PYTEST) tests/unit tests/integration --loop uvloop --stack embedded

BROKER_SOURCES := $(shell find devbroker -type f \( -name '*.go' -o -name 'go.*' -o -name '*.py' -o -name '*.toml' \) -not -path '*/build/*')

##@ Try it

demo: env ## a real job on a local stack, with a worker killed in the middle of it
	$(BIN)/yadtq demo $(ARGS)

dev: env ## a local Kafka and Redis on their default ports where these are free, until Ctrl-C
	$(BIN)/yadtq dev $(ARGS)

##@ Test it

test: env servers ## all tests but the benchmarks; without Java and Maven those that need Apache Kafka are skipped
	$(PYTEST) --ignore=tests/bench $(STACK) $(ARGS)
	$(if $(ARGS),,$(UVLOOP))
	$(if $(or $(ARGS),$(if $(STACK),,none)),,$(PYTEST) tests/integration -m smoke --stack secured)

check: env ## lint, format, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy yadtq devbroker/src tests
	$(BIN)/lint-imports --no-logo --no-cache

uvloop: env servers ## unit tests and the smoke set on uvloop
	$(UVLOOP) $(ARGS)

secured: env servers ## the smoke set on Kafka and Redis with TLS, logins and least rights
	$(PYTEST) tests/integration -m smoke --stack secured $(ARGS)

unit: env ## no servers, a few seconds
	$(PYTEST) tests/unit tests/typing $(ARGS)

contract: env servers ## stores and brokers and their in-memory doubles, one suite for all
	$(PYTEST) tests/contract $(ARGS)

integration: env servers ## against Kafka and Redis
	$(PYTEST) tests/integration $(ARGS)

system: env servers ## real processes and signals
	$(PYTEST) tests/system $(ARGS)

chaos: env servers ## processes killed and frozen, servers stopped, connections cut
	$(PYTEST) tests/chaos $(ARGS)

sim: env ## the simulation: make sim SEED=1 SEEDS=1000, or MINUTES=10; ARGS="--sweep drain" kills at each call
	$(BIN)/python -m yadtq.testing.sim $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) \
	  $(if $(filter command line,$(origin MINUTES)),--minutes $(MINUTES)) $(ARGS)

SEED ?=
SEEDS ?=
MINUTES ?= 30
soak: env servers ## the full mix of faults under load: make soak SEED=7 MINUTES=30
	$(BIN)/python -m tests.chaos soak $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES) $(ARGS)

fuzz: env ## random input for everything that parses foreign bytes, this long for each test: make fuzz MINUTES=10
	MINUTES=$(MINUTES) $(PYTEST) tests/unit/test_fuzz_*.py $(ARGS)

docs: env $(DOCS)/.requirements ## build the documentation site into build/site, strictly; its Python is run by `make test`
	$(PYTEST) -q tests/unit/test_docs.py tests/site --deselect tests/site/test_snippets.py $(ARGS)
	$(BIN)/python -m tests.site build

newcomer: env ## packages into an empty environment, then the quickstart word for word
	$(BIN)/python -m tests.site.newcomer

##@ Measure it

bench: env servers ## measure everything and save the results
	$(BIN)/python -m tests.bench run $(ARGS)

bench-check: env servers ## compare with the saved results; fails on a regression
	$(BIN)/python -m tests.bench check $(ARGS)

bench-peers: env servers ## the same loads on other task queues
	$(BIN)/python -m tests.bench peers $(ARGS)

##@ Run it in containers

up: ## Apache Kafka, Redis and a supervisor with four workers (Docker Compose)
	docker compose up --detach --build --wait

down: ## stop them; their data is kept (docker compose down --volumes removes them)
	docker compose down

##@ Housekeeping

lock: ## write requirements/*.lock, after a change of requirements-*.txt or of the dependencies in pyproject.toml
	@.ci/lock $(VENV)

audit: env ## look for known vulnerabilities in what the locks install
	@.ci/audit $(VENV) $(ARGS)

env: $(VENV)/.yadtq ## make or update .venv

format: env ## format the code, and fix what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

servers: ## provide a redis-server: on Debian as root it is installed, elsewhere the tests use Valkey from a wheel
	@.ci/servers redis

prerequisites: ## list which prerequisites this machine has
	@.ci/prerequisites $(PYTHON)

clean: ## remove files that can be rebuilt in seconds
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .grimp_cache .import_linter_cache build dist devbroker/build devbroker/dist
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## and those that take minutes: the environment, and the jars of Apache Kafka
	rm -rf $(VENV) .cache

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# One stamp file per step, so that an edit of pyproject.toml does not compile the broker again. No build isolation: it would
# install build tools of any version, without a look at their hashes.

$(VENV)/.requirements: requirements/dev.lock
	@.ci/prerequisites $(PYTHON)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --requirement requirements/dev.lock
	@touch $@

$(DOCS)/.requirements: requirements/docs.lock
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --requirement requirements/docs.lock
	@touch $@

$(VENV)/.devbroker: $(VENV)/.requirements $(BROKER_SOURCES)
	$(PIP) install --force-reinstall --no-deps --no-build-isolation ./devbroker
	@touch $@

$(VENV)/.yadtq: $(VENV)/.devbroker pyproject.toml
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: audit bench bench-check bench-peers chaos check clean contract demo dev distclean docs down env format fuzz help \
  integration lock newcomer prerequisites servers sim soak system test unit up uvloop
