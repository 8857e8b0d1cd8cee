# make demo: set up and benchmark on the embedded dataset.  make test: set up, lint, test.  Both work on a fresh machine
# with Python 3.11 to 3.13 and make, and do only what is still to be done the next time.
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3))
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

demo: $(VENV)/.demo
	$(BIN)/harness benchmark -m bm25 -m minilm -m mpnet --suite demo
	@echo
	$(BIN)/harness report --suite demo

test: lint
	$(BIN)/pytest -m "not slow and not gpu" -n 2

test-slow: $(VENV)/.test
	$(BIN)/pytest -m slow

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[dense,bm25]"
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[dense,bm25,pyserini,train,ray,page,dev]"
	@touch $@

.PHONY: demo test test-slow lint bench clean
