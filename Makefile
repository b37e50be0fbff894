# Targets work on a fresh machine with Python 3.11+, git and make; PYTHON picks another one.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench bench-train bench-read bench-metrics bench-mini bench-serve \
        docs vendor lock clean

demo: $(VENV)/.base
	@$(BIN)/python examples/demo.py

# Files of tests side by side, one a core.
test: $(VENV)/.dev
	@$(BIN)/python -m pytest -q -n auto --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.embed

bench-train: $(VENV)/.bench
	@$(BIN)/python -m benchmarks.train

bench-read: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.read

bench-metrics: $(VENV)/.bench
	@$(BIN)/python -m benchmarks.metrics

# Its data is no part of the project: make bench-mini DATA=DIR, and more in OPTIONS.
bench-mini: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.mini $(if $(DATA),--data $(DATA)) $(OPTIONS)

# The page of the Python API, from the docstrings.
docs: $(VENV)/.dev
	@$(BIN)/python -m docs.make_python_api

# The libraries of the service's page, at the versions and with the hashes of vendor.json.
vendor:
	@$(PYTHON) recipes/page_libraries.py

# Twenty-five minutes; OPTIONS=--quick takes one.
bench-serve: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.serve $(OPTIONS)

# The versions and hashes that the image is made of: the newest ones.
lock: $(VENV)/.base
	@$(BIN)/python -m pip install -qq --disable-pip-version-check uv
	@$(BIN)/python deploy/lock.py

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output

# An environment is made again when the list of packages changes.
$(VENV)/.base: pyproject.toml
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[plot]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@echo "Setting up $(VENV) with everything the tests need ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.base

$(VENV)/.bench: pyproject.toml
	@echo "Setting up $(VENV) with what the benchmarks measure beside ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.base
