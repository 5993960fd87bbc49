# `make help` lists the targets. Everything is installed in .venv, and nowhere else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTHONS ?= 3.11 3.12 3.13 3.14
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test lint types tests test-gpu notebooks docs check bench format clean
.PHONY: release-check test-oldest test-pythons

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## train NumPy models on real data, and check every number against torch
	$(BIN)/python -m arrayopt demo

test: lint types tests  ## lint, types, tests, doctests and notebooks

lint: $(READY)  ## ruff: style and formatting
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: $(READY)  ## mypy --strict
	$(BIN)/python -m mypy

tests: $(READY)  ## pytest with doctests and branch coverage
	$(BIN)/python -m pytest --numprocesses auto --cov --cov-report=term

test-gpu: $(READY)  ## on an NVIDIA GPU: parity with torch and NumPy, graphs, streams (pip install cupy first)
	$(BIN)/python -m pytest tests/gpu

notebooks: $(READY)  ## run all notebooks afresh and store their outputs
	$(BIN)/python tests/test_notebooks.py

docs: $(READY)  ## the documentation site, in build/docs; a warning or a broken link is an error
	$(BIN)/pip install --quiet --editable ".[docs]"
	rm -rf build/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet \
		-d build/doctrees notebooks build/docs
	@echo "build/docs/index.html"

check: $(READY)  ## every algorithm beside torch's, step by step
	$(BIN)/python -m arrayopt check

bench: $(READY)  ## a short run of the asv suite
	$(BIN)/pip install --quiet "asv>=0.6.4"
	cd asv_benchmarks && ../$(BIN)/asv machine --yes >/dev/null && \
	ARRAYOPT_SHORT_BENCHMARK=1 ../$(BIN)/asv run --quick --show-stderr --python=same

release-check: $(READY)  ## build sdist and wheel, install each in empty environments, try every extra
	$(BIN)/python tests/release_check.py

test-oldest: $(READY)  ## pytest and tools with the lowest version of every package, on the lowest Python
	$(BIN)/python tests/elsewhere.py oldest

test-pythons: $(READY)  ## pytest without torch (with it: TORCH=1), on each Python that we support and this machine has
	$(BIN)/python tests/elsewhere.py $(if $(TORCH),,--without-torch) $(PYTHONS)

format: $(READY)  ## let ruff mend what it can
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean:  ## remove the virtual environment and all caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* build dist *.egg-info

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@
