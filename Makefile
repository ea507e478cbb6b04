# `make demo` and `make test` do all of their own set-up: virtual environment, CPU torch where there is no GPU.
# Another interpreter: make PYTHON=python3.12 test     Another place for the environment: make VENV=/scratch/env test

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-slow test-versions bench lint types packages clean distclean

help:
	@echo "make demo       NVT of ethanol and of bulk copper with the bundled models -> demo_output/"
	@echo "make test       lint, types, fast tests and the packaging guard"
	@echo "make test-slow  the tests that take minutes each"
	@echo "make test-versions  the suite on the oldest and newest versions allowed, on Python 3.12 and 3.13; see .ci/test_versions.sh"
	@echo "make bench      speed against other codes, half an hour or more; the tables go into docs/benchmarks.md"
	@echo "make lint       ruff;   make types   mypy --strict;   make packages   packaging guard only"
	@echo "make clean      remove build and tool caches;   make distclean   remove $(VENV) and .venvs as well"

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

test: lint types
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

test-versions:
	.ci/test_versions.sh

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks --into docs/benchmarks.md

packages: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/house/test_packaging.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev build/types
	$(BIN)/mypy

# mypy sees the package as a wheel holds it, with models and md_protocols inside mlcalc.
build/types: $(wildcard mlcalc/* models md_protocols)
	rm -rf $@ && mkdir -p $@/mlcalc
	ln -s $(CURDIR)/mlcalc/* $(CURDIR)/models $(CURDIR)/md_protocols $@/mlcalc/

$(VENV)/.venv: .ci/setup_venv.sh
	.ci/setup_venv.sh $(PYTHON) $(VENV)
	touch $@

$(VENV)/.torch: .ci/install_torch.sh $(VENV)/.venv
	.ci/install_torch.sh $(BIN)/python
	touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.torch
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.torch
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable ".[dev]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf build dist *.egg-info demo_output benchmark_output .mypy_cache .pytest_cache .ruff_cache .hypothesis

distclean: clean
	rm -rf $(VENV) .venvs
