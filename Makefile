# `make demo` and `make test` need nothing but Python 3.11 or later and git; they set up what they use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Worker processes of the tests: `make test WORKERS=2`; with 0 they run in pytest's own process.
# `logical` is one for each core, and each worker needs up to 1 GB of memory.
# A worker starts with a contiguous share of the tests, so fixtures of modules are built once or
# twice, and takes over tests of a slower one when it has none left.
WORKERS ?= logical
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --maxprocesses=8 --dist=worksteal \
	--durations=10
unexport PYTHONDONTWRITEBYTECODE # so that workers, and processes that tests start, share what is compiled

.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-all bench bench-serving docs readme generate clean

help:  ## show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 14

setup: $(READY)  ## make the virtual environment
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY)  ## simulate a funnel, train LCRON and a baseline, print the table
	$(BIN)/cascaderank demo

check: $(READY)  ## lint, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python tools/generate.py --check

test: $(READY)  ## tests, doctests and architecture
	$(PYTEST)

test-all: $(READY)  ## the same with the slow ones
	$(PYTEST) -m 'slow or not slow'

bench: $(VENV)/.bench  ## measure beside peers, and write that part of docs/performance.md
	$(BIN)/python benchmarks/run.py --page docs/performance.md

bench-serving: $(VENV)/.bench  ## measure servers beside peers, and write their part of it
	$(BIN)/python benchmarks/serving.py --page docs/performance.md

# torchsort is built from source, for the CPU; where that fails its rows say "not installed".
$(VENV)/.bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	-PATH="$(CURDIR)/$(BIN):/usr/bin:/bin" $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation -c constraints.txt torchsort >/dev/null 2>&1
	@touch $@

generate: $(READY)  ## write type stubs and API pages anew from the code
	$(BIN)/python tools/generate.py

readme: $(READY)  ## run the commands of the README, and renew the outputs and the picture in it
	$(BIN)/python tools/renew_readme.py

docs: $(READY)  ## build the pages under site/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

clean:  ## remove what was made, except runs and data sets
	rm -rf $(VENV) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
