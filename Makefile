# Every target runs in .venv/, which `make setup` makes; see `make help`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SYNCED := $(VENV)/.synced
# One more than there are processors: many a test waits for a process or a store.
PROCESSES := $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n + 1 : 4)))
PYTEST := $(BIN)/python -m pytest -n $(PROCESSES)

.DEFAULT_GOAL := help
.PHONY: help setup lock format lint types test check demo docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SYNCED) ## Make .venv/ from requirements.lock (PYTHON=python3.12 to choose another Python)

# The stamp is a copy of the lock: nothing is installed, nor asked of the network, unless it differs.
# uv stays in the environment and is never part of the lock.
$(SYNCED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
	  "maskmill needs Python 3.11 or newer, $(PYTHON) is older: make setup PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@cmp -s requirements.lock $@ || \
	  $(BIN)/uv pip sync --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	@cp requirements.lock $@

lock: setup ## Write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet -o requirements.lock

format: setup ## Format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lint: setup ## Check format and lint
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: setup ## Check types
	$(BIN)/pyright

test: setup ## Run the whole test suite, in up to four processes
	$(PYTEST)

check: lint types ## Lint, types and the quick tests
	$(PYTEST) -m "not gpu and not slow"

demo: setup ## Label example pictures end to end, into demo/
	$(BIN)/python -m examples.demo

docs: setup ## Write docs/reference/ anew and build the site into build/site
	$(BIN)/python -m docs.generate
	$(BIN)/zensical build --clean --strict

clean: ## Remove everything that the targets made, but not .venv/
	rm -rf demo dist build .cache .hypothesis .ruff_cache
	find pipeline jobs schemas maskmill tests bench docs examples -name __pycache__ -type d -prune -exec rm -rf {} +
