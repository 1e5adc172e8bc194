# What people need: `make serve` and `make test` work on a fresh checkout with Python 3.11 or newer and nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
SIM_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help serve test examples sim lint format bench docs clean

help:  ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

# What setup.py compiles: its output lies beside the sources, and is used instead of them where it is.
COMPILED := $(wildcard corekit/builtin/*.py corekit/codec/*.py corekit/model/*.py corekit/replica/*.py corekit/server/*.py \
    corekit/server/*.c plugins/zab/corekit_zab/*.py plugins/storage_rocks/corekit_storage_rocks/*.py \
    plugins/storage_rocks/corekit_storage_rocks/*.c)

# One mark a set of extras; a change of what they are made from installs again.
$(VENV)/.installed: pyproject.toml setup.py $(COMPILED)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@find corekit plugins -name '*.so' -delete
	@echo "compiling, one to three minutes (COREKIT_COMPILE=0: without)"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	COREKIT_COMPILE=0 $(BIN)/python -m pip install --quiet --editable '.[dev]'  # what is compiled stays
	@touch $@

serve: $(VENV)/.installed  ## Run a server on port 2181, data in ./corekit-data.
	$(BIN)/corekit serve

test: $(VENV)/.installed-dev  ## Run the tests. PYTEST_ARGS are handed on.
	$(BIN)/python -m pytest $(PYTEST_ARGS)

sim: $(VENV)/.installed  ## Simulate 1,000 ensembles under faults, 100 hours in all. SIM_ARGS are handed on.
	$(BIN)/corekit sim --runs 1000 --hours 100 $(SIM_ARGS)

examples:  ## Build the packages in examples/ as wheels and test them where nothing else is. EXAMPLES names some.
	$(PYTHON) examples/run.py $(EXAMPLES)

lint: $(VENV)/.installed-dev  ## Check style, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## Mend style and format where a tool can.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev  ## Run the benchmarks.
	$(BIN)/python -m tests.bench

docs: $(VENV)/.installed-dev  ## Write the pages that are made from the code: docs/cli.md, docs/hooks.md, docs/plugins.md, docs/recipes.md.
	$(BIN)/python -m tests.docs

clean:  ## Remove the virtual environment and what tools leave behind.
	find corekit plugins -name '*.so' -delete
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
