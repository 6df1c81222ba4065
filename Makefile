# Everything sets itself up: a fresh clone needs Python >= 3.11 with venv, git and make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.locked

.PHONY: help
help: ## Shows this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version + "; try: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@command -v git >/dev/null || { echo "git is missing. On Debian and Ubuntu: apt-get install git"; exit 1; }
	@echo "Setting up $(VENV): locked packages, with their hashes checked"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: setup
setup: $(STAMP) ## Virtual environment with the locked packages, and the daemons
	@$(BIN)/santiago doctor --fetch --quiet

.PHONY: demo
demo: setup ## The main job, end to end, on a workspace of its own; leaves nothing behind
	@$(BIN)/python examples/01-first-deploy/demo.py

.PHONY: test
test: setup lint ## All tests but the long ones
	@$(BIN)/pytest

.PHONY: test-slow
test-slow: setup ## Those that wait for minutes: objectives, budgets and incidents from end to end
	@$(BIN)/pytest -m slow

.PHONY: test-fast
test-fast: $(STAMP) ## Unit tests alone, in seconds
	@$(BIN)/pytest tests/unit

.PHONY: lint
lint: $(STAMP) ## Style, types and layers
	@$(BIN)/ruff check src tests examples
	@$(BIN)/ruff format --check --quiet src tests examples
	@$(BIN)/mypy
	@$(BIN)/lint-imports >/dev/null || $(BIN)/lint-imports

# The browser of the console's tests, and the checks of accessibility that it runs: axe-core is MPL-2.0, and not ours to ship.
AXE_VERSION := 4.14.1
AXE_SHA256 := 29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
.PHONY: browser
browser: $(STAMP) ## Installs a headless Chromium for the console's tests (Debian and Ubuntu, as root)
	@command -v chromium-headless-shell chromium >/dev/null || { apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium-headless-shell >/dev/null; }
	@[ -f $(VENV)/axe.min.js ] || { set -e; folder=$$(mktemp -d); cd $$folder; npm pack --silent axe-core@$(AXE_VERSION) >/dev/null; \
		tar xzf axe-core-*.tgz package/axe.min.js; echo "$(AXE_SHA256)  package/axe.min.js" | sha256sum --check --quiet; \
		mv package/axe.min.js $(CURDIR)/$(VENV)/axe.min.js; rm -r $$folder; }

.PHONY: test-browser
test-browser: setup browser ## The console in a real browser (SCREENSHOTS=folder keeps pictures)
	@$(BIN)/pytest tests/browser

UPLOT_VERSION := 1.6.32
STATIC := src/santiago_platform/entrypoints/console/static
.PHONY: uplot
uplot: ## Puts the charts' library into the package anew (UPLOT_VERSION=n)
	@set -e; folder=$$(mktemp -d); cd $$folder; npm pack --silent uplot@$(UPLOT_VERSION) >/dev/null; tar xzf uplot-*.tgz; \
		cp package/dist/uPlot.iife.min.js package/dist/uPlot.min.css $(CURDIR)/$(STATIC)/; \
		cp package/LICENSE $(CURDIR)/$(STATIC)/uPlot.LICENSE; rm -r $$folder

.PHONY: chaos
chaos: setup ## Breaks things at random points of random rollouts (SEED=n ROUNDS=n FAULT=words)
	@$(BIN)/pytest -s tests/chaos

.PHONY: bench
bench: setup ## Figures for docs/benchmarks.md
	@$(BIN)/python -m tests.bench

.PHONY: bench-judge
bench-judge: $(STAMP) ## Simulated rollouts for docs/judge.md
	@$(BIN)/python -m tests.bench_judge

.PHONY: lock
lock: ## Resolves requirements.lock anew (needs uv on PATH)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--group dev pyproject.toml --output-file requirements.lock

.PHONY: clean
clean: ## Removes what make made
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
