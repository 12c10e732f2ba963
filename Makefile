# make run, make test, make test-long, make lint, make bench, make fuzz, make soak, make deploy: the same for people and for CI.
SHELL := /bin/sh
PYTHON ?= python3
PORT ?= 8000
STAGE ?= dev
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help run test test-long lint format bench fuzz soak deploy destroy package verify clean

help: ## what can be made here
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 18

run: $(VENV)/local.stamp ## serve ws://127.0.0.1:8000/ (PORT=9000 moves it, PERSIST=folder keeps the table)
	@exec $(BIN)/python -m localaws --port $(PORT)

test: lint tests/clients/node_modules/.stamp ## lint, types, every test, coverage
	@$(BIN)/python -m pytest --cov --cov-report=term --cov-fail-under=95 $(PYTEST)

test-long: lint tests/clients/node_modules/.stamp ## the tests that take minutes: many runs in a row, and ten thousands of steps
	@$(BIN)/python -m pytest -m long $(PYTEST)

lint: $(VENV)/dev.stamp ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/dev.stamp ## rewrite the code in the project's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/bench.stamp tests/clients/node_modules/.stamp bench/node_modules/.stamp ## measure; prints tables (QUICK=1: a minute)
	@$(BIN)/python -m bench $(if $(filter-out 0,$(QUICK)),--quick)

fuzz: $(VENV)/dev.stamp ## a million frames and handshakes against a model of rights (FUZZ=100000 fewer, SEED=7 the same again)
	@FUZZ=$(FUZZ) SEED=$(SEED) $(BIN)/python -m tests.fuzz

soak: $(VENV)/dev.stamp ## 1,000 clients under faults for 5 minutes, and an account of every message (SOAK=60 seconds, CLIENTS=200, WORKERS=4, SEED=7)
	@SOAK=$(SOAK) CLIENTS=$(CLIENTS) WORKERS=$(WORKERS) SEED=$(SEED) $(BIN)/python -m tests.soak

deploy: $(VENV)/ops.stamp ## create or update a stage on AWS, and print its wss:// address (STAGE=dev)
	@$(BIN)/python -m ops deploy "$(STAGE)"

destroy: $(VENV)/ops.stamp ## remove a stage from AWS, after asking (TABLE=drop removes its table too, YES=1 does not ask)
	@$(BIN)/python -m ops destroy "$(STAGE)" --table "$(or $(TABLE),keep)" $(if $(filter-out 0,$(YES)),--yes)

package: $(VENV)/ops.stamp ## write a stage's CloudFormation template and zip into a folder (STAGE=prod OUT=folder)
	@$(BIN)/python -m ops package "$(STAGE)" "$(OUT)"

verify: $(VENV)/ops.stamp ## hold real conversations with what is served at an address (URL=wss://..., ANY_HOST=1: not only here)
	@$(BIN)/python -m ops verify "$(URL)" $(if $(filter-out 0,$(ANY_HOST)),--any-host)

clean: ## remove all that make has made
	rm -rf $(VENV) tests/clients/node_modules bench/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Channels needs Python 3.10 or newer; PYTHON=/path/to/python3.11 make $(MAKECMDGOALS) uses another." >&2; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/ops.stamp: requirements-ops.txt | $(VENV)/bin/python
	@echo "Installing what deploys need into $(VENV) (once) ..."
	@$(PIP) install -r requirements-ops.txt
	@touch $@

$(VENV)/local.stamp: requirements-local.txt requirements-ops.txt requirements.txt | $(VENV)/bin/python
	@echo "Installing what the server needs into $(VENV) (half a minute, once) ..."
	@$(PIP) install -r requirements-local.txt
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/local.stamp
	@echo "Installing what the tests need into $(VENV) (a minute, once) ..."
	@$(PIP) install -r requirements-dev.txt
	@touch $@

$(VENV)/bench.stamp: requirements-bench.txt $(VENV)/dev.stamp
	@echo "Installing what the measurements need into $(VENV) (once) ..."
	@$(PIP) install -r requirements-bench.txt
	@touch $@

tests/clients/node_modules/.stamp: tests/clients/package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "Installing the JavaScript clients ..." && cd tests/clients && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && touch node_modules/.stamp; \
	else echo "npm is not here: tests with JavaScript clients will be skipped (install Node 20 to run them)."; fi

bench/node_modules/.stamp: bench/package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "Installing the SDK for JavaScript ..." && cd bench && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && touch node_modules/.stamp; \
	else echo "npm is not here: Node's SDK will not be measured (install Node 20 to have it)."; fi
