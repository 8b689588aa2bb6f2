# Everything sets itself up in .venv first; only Python 3.11 or newer and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OLDEST := .venv-oldest

# The Dagster instance of this checkout: dagster.yaml, with its storage in .dagster_home.
export DAGSTER_HOME := $(CURDIR)

.PHONY: demo test test-oldest ui lint bench clean

demo: $(INSTALLED)
	$(BIN)/caption-assets demo

# Two processes, whatever the machine: each may hold two gigabytes of models' packages.
test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# The models' rooms with the lowest versions that pyproject.toml allows: vLLM's inputs differ most between versions.
test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest caption_assets_tests/models

ui: $(INSTALLED)
	$(BIN)/dagster dev

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What needs no GPU; benchmarks/captions.py needs one.
bench: $(INSTALLED)
	for name in media shards demo demo_assets; do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

clean:
	rm -rf $(VENV) $(OLDEST) .dagster_home demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "caption_assets needs Python 3.11 or newer; name one with PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(OLDEST)/.installed: pyproject.toml
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet uv
	$(OLDEST)/bin/uv pip install --quiet --resolution lowest-direct --compile-bytecode \
		--python $(OLDEST)/bin/python --editable '.[dev]'
	@touch $@
