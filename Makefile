# All targets work on a new machine with Python 3.11 or later, git and make. PYTHON selects another
# interpreter, VENV another virtual environment. OPTIONS is passed on to benchmarks: for example,
# make bench OPTIONS=--quick
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench bench-train bench-read bench-metrics bench-mini bench-serve bench-startup \
        docs vendor lock fuzz clean

demo: $(VENV)/.base
	@$(BIN)/python examples/demo.py

# One process for each core, each running whole test files.
test: $(VENV)/.dev
	@$(BIN)/python -m pytest -q -n auto --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.embed $(OPTIONS)

bench-train: $(VENV)/.bench
	@$(BIN)/python -m benchmarks.train $(OPTIONS)

bench-read: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.read $(OPTIONS)

bench-metrics: $(VENV)/.bench
	@$(BIN)/python -m benchmarks.metrics $(OPTIONS)

bench-startup: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.startup $(OPTIONS)

# The data is not part of the repository: make bench-mini DATA=DIR
bench-mini: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.mini $(if $(DATA),--data $(DATA)) $(OPTIONS)

# Regenerate docs/python-api.md from the docstrings.
docs: $(VENV)/.dev
	@$(BIN)/python -m docs.make_python_api

# Download the JavaScript libraries of the web page, at the versions and hashes in vendor.json.
vendor:
	@$(PYTHON) recipes/page_libraries.py

# Takes 25 minutes; OPTIONS=--quick takes one.
bench-serve: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.serve $(OPTIONS)

# Update the lock files of the container image to the newest versions.
lock: $(VENV)/.base
	@$(BIN)/python -m pip install -qq --disable-pip-version-check uv
	@$(BIN)/python deploy/lock.py

# Decode a million generated audio files, valid and damaged: make fuzz FILES=20000 SEED=1 JOBS=2
fuzz: $(VENV)/.dev
	@$(BIN)/python -m tests.support.fuzzing --files $(or $(FILES),1000000) --seed $(or $(SEED),0) \
		$(if $(JOBS),--jobs $(JOBS)) $(OPTIONS)

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output

# An environment is updated when the list of packages changes.
$(VENV)/.base: pyproject.toml
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[plot]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@echo "Setting up $(VENV) with the development dependencies ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.base

$(VENV)/.bench: pyproject.toml
	@echo "Setting up $(VENV) with the packages that the benchmarks compare with ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.base
