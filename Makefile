# The commands of this repository. Everything goes into .venv; nothing is installed outside it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is built into the installed package: when one of these changes, it is installed again.
SOURCES := pyproject.toml $(shell find harness faults workloads reports systems_under_test build_backend -type f \
	-not -path '*/__pycache__/*' -not -path '*/_bin/*' -not -path '*/_notices/*' 2>/dev/null)

.PHONY: help demo demo-broken install native test nightly lint clean

help:
	@echo "make demo         install, then run the reference cluster under four faults; it must pass"
	@echo "make demo-broken  install, then run an unsafe setting; the loss must be caught"
	@echo "make test         install with the test tools, then run all tests"
	@echo "make nightly      install with the test tools, then every fault on every backend and the large sweeps (hours; root, a Docker engine)"
	@echo "make native       build the two Go programs in place, for work on the tree without installing it"
	@echo "make lint         formatting, lint, types, layers"
	@echo "make clean        remove .venv and build leftovers (run folders stay)"

demo: install
	$(BIN)/aftershock run examples/demo.toml $(ARGS)

demo-broken: install
	$(BIN)/python examples/broken/expect_loss.py $(ARGS)

install: $(VENV)/installed

native:
	$(PYTHON) build_backend/native_programs.py

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(ARGS)

nightly: $(VENV)/installed-dev
	$(BIN)/aftershock images
	AFTERSHOCK_NO_SKIPS=1 $(BIN)/python -m pytest -m nightly $(ARGS)

lint: $(VENV)/installed-dev
	./.ci/link-namespace
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python $(SOURCES)
	$(BIN)/pip install --quiet .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed $(SOURCES)
	$(BIN)/pip install --quiet ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .ns
