# make demo: set up and benchmark on the embedded dataset.  make test: set up, lint, test.  make docs: set up, build the
# site.  All work on a fresh machine with Python 3.11 to 3.13 and make, and do only what is still to be done the next time.
# make bench: measure against peers.
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3))
VENV ?= .venv
PEERS = .venv-peers
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

demo: $(VENV)/.demo
	$(BIN)/harness benchmark -m bm25 -m minilm -m mpnet --suite demo
	@echo
	$(BIN)/harness report --suite demo
	@$(BIN)/harness report --suite demo --format html --output results/page.html
	@echo
	@echo "The same as a page to explore: $(CURDIR)/results/page.html"
	@echo "For the harness command: make shell, or: source $(BIN)/activate"

# A shell that finds the harness command; `exit` leaves it.
shell: $(VENV)/.demo
	@PATH="$(abspath $(BIN)):$$PATH" VIRTUAL_ENV="$(abspath $(VENV))" $${SHELL:-sh}

test: lint
	$(BIN)/pytest -m "not slow and not gpu" -n 2 --dist worksteal

test-slow: $(VENV)/.test
	$(BIN)/pytest -m slow

# The documentation site in site/: built without a network, strictly, and its links checked (docs/site_builder).
docs: $(VENV)/.docs
	PYTHONPATH=docs $(BIN)/python -m site_builder

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/audit.py

# Asks about known faults of what constraints.txt pins; needs a network.
audit: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/python .ci/audit.py --advisories

# Each contest against its peers, in about 25 minutes of two idle cores; BENCH="encode --whole" makes it another.
bench: $(VENV)/.test bench-peers
	$(BIN)/python -m benchmarks $(BENCH)

# The peers' own environments: nothing of theirs is installed beside the harness.
bench-peers: $(PEERS)/backends/.made $(PEERS)/mteb/.made

clean:
	rm -rf $(VENV) $(PEERS) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(PEERS)/backends/.made: benchmarks/peers/backends.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(PEERS)/mteb/.made: benchmarks/peers/mteb.txt constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement $<
	@touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[dense,bm25,page,plot]"
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[dense,bm25,seismic,endpoints,pyserini,train,ray,page,plot,overlap,dev]"
	@touch $@

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[docs]"
	@touch $@

.PHONY: demo shell test test-slow docs lint audit bench bench-peers clean
