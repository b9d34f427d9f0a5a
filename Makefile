# Two commands matter: `make demo` shows what this is, `make test` says whether it works.
# Both need Python >= 3.11 and nothing else.

PYTHON ?= python3
VENV ?= .venv
# `make demo SERVE=0` stops before the web demo is served.
SERVE ?= 1

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# A stamp is older than what it was installed from when that has changed: then, and only then, make installs again.
CORE := $(VENV)/.installed-core
DEV := $(VENV)/.installed-dev

.PHONY: help demo test check format bench clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(CORE)  ## Index the sample images, search them in three ways, serve the web demo
	$(BIN)/virtue demo $(if $(filter 0,$(SERVE)),--no-serve)

# One process for each core, each with one thread.
test: export OMP_NUM_THREADS = 1
test: check  ## Lint, types and the test suite
	$(BIN)/python -m pytest -q -n auto

check: $(DEV)  ## Lint, formatting, floors and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(DEV)  ## Sort the imports and format every file
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

bench: $(CORE)  ## Measure speed, as ratios in one run
	$(BIN)/python benchmarks/embed.py
	$(BIN)/python benchmarks/search.py

clean:  ## Remove the environment
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "virtue needs Python 3.11 or newer, and $(PYTHON) is not: name a newer one with \`make PYTHON=/path/to/python3.11 ...\`." >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(CORE): $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[serve]'
	@touch $@

$(DEV): $(CORE)
	$(INSTALL) -e '.[dev]'
	@touch $@
