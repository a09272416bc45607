# Every command of the project. Two are enough to begin with: `make up` and `make test`; both do all the set-up.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := shared services deploy tests docs/examples
TO ?= you@example.com
TEST_PROCESSES ?= 4
export PYTHONPATH := $(CURDIR):$(CURDIR)/shared/client
# Without compiled files every process of a run compiles all our modules again.
export PYTHONDONTWRITEBYTECODE :=

help: ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(STAMP) ## run everything here, until Ctrl-C: Kafka, PostgreSQL, mail catcher, all services
	@exec $(BIN)/python -m deploy.local up

start: $(STAMP) ## the same in the background
	@exec $(BIN)/python -m deploy.local start

stop: $(STAMP) ## stop what `start` (or `up`) runs; data is kept
	@exec $(BIN)/python -m deploy.local stop

status: $(STAMP) ## which processes run, and whether they are ready
	@exec $(BIN)/python -m deploy.local status

send: $(STAMP) ## send one mail through the running stack: make send TO=ann@example.org
	@exec $(BIN)/python -m deploy.local send --to '$(TO)'

reconcile: $(STAMP) ## prove from the topics that every mail has its end: make reconcile ARGS='--since 24h'
	@exec $(BIN)/python -m deploy.local run -- services.gateway reconcile $(ARGS)

rebuild: $(STAMP) ## make the read model again from the topics, while everything runs
	@exec $(BIN)/python -m deploy.local run -- services.gateway rebuild

# Lint uses one processor, and tests wait now and then: it runs beside them, and what it finds is said at the end.
test: $(STAMP) ## everything CI runs: lint and all tests, on real Kafka and PostgreSQL
	@mkdir -p .cache; $(MAKE) --no-print-directory lint >.cache/lint.log 2>&1 & lint=$$!; \
	$(MAKE) --no-print-directory jars && $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile \
	  --no-loadscope-reorder tests/unit tests/contract tests/integration tests/e2e; tested=$$?; \
	wait $$lint; linted=$$?; [ $$linted = 0 ] && echo "lint: nothing found" || \
	  { cat .cache/lint.log; echo "make lint has failed, see above" >&2; }; \
	[ $$tested = 0 ] && exit $$linted; exit $$tested

lint: $(STAMP) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports

bench: $(STAMP) jars ## measure against targets and yardsticks, half an hour (ONLY=drain,accept: parts; QUICK=1: a check)
	@exec $(BIN)/python -m tests.bench --only '$(ONLY)' $(if $(QUICK),--quick) $(if $(JSON),--json '$(JSON)')

chaos: $(STAMP) jars ## kill things under load, count what is lost and doubled (ONLY=killed: one scenario)
	@$(BIN)/python -m pytest tests/chaos $(if $(ONLY),-k '$(ONLY)'); kept=$$?; \
	  $(BIN)/python -m tests.chaos.results || [ -n '$(ONLY)' ] || exit 1; exit $$kept

docs: $(STAMP) ## write the generated pages and schemas again
	$(BIN)/python -m shared.events.schemas
	$(BIN)/python -m shared.events.asyncapi
	$(BIN)/python -m deploy.local.openapi_page
	$(BIN)/python -m shared.metrics_page
	$(BIN)/python -m shared.problems_page
	$(BIN)/python -m tests.support.security_page

lock: $(STAMP) ## write requirements.lock again from pyproject.toml (UPGRADE=--upgrade: newest of all)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command 'make lock' $(UPGRADE) \
	  --group local --group dev pyproject.toml --output-file requirements.lock
	for yardstick in celery post_office; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-annotate --custom-compile-command 'make lock' $(UPGRADE) \
	    tests/bench/yardsticks/$$yardstick.in --output-file tests/bench/yardsticks/$$yardstick.lock || exit 1; done
	for django in 5.2=3.11 newest=3.12 beat=3.11; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version $${django#*=} --generate-hashes \
	    --no-emit-index-url --no-annotate --custom-compile-command 'make lock' $(UPGRADE) \
	    tests/in_django/django_$${django%=*}.in --output-file tests/in_django/django_$${django%=*}.lock || exit 1; done

clean: ## remove caches and the virtual environment; never data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

jars: $(STAMP)
	@$(BIN)/python -m deploy.local.kafka

# uv does in seconds what takes pip a minute. It asks PyPI: where pip has been told of another index, pip does it all.
PIP_INSTALL := PIP_REQUIRE_VIRTUALENV=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r

# A Python of at least 3.11: PYTHON=/path/to/python where it is named, else the first that will do.
$(STAMP): requirements.lock
	@if ! $(BIN)/python -c 'import pip, sys; sys.exit(sys.prefix == sys.base_prefix)' >/dev/null 2>&1; then \
	  for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	    if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	      found=$$python; break; fi; done; \
	  if [ -z "$$found" ]; then \
	    echo "Milena needs Python 3.11 or newer with venv (Debian, Ubuntu: apt-get install python3-venv):" \
	      "install it, or name it: make PYTHON=/path/to/python" >&2; exit 1; fi; \
	  echo "setting up $(VENV) with $$("$$found" -V)"; "$$found" -m venv --clear $(VENV) || exit 1; fi
	@echo "installing the locked dependencies into $(VENV) (once)"
	@awk '/^[^ #]/ {wanted = /^uv==/} wanted' requirements.lock >$(VENV)/uv.lock
	@$(PIP_INSTALL) $(VENV)/uv.lock
	@if $(BIN)/python -m pip config list | grep -q index-url; then $(PIP_INSTALL) requirements.lock; else \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --link-mode copy --compile-bytecode --require-hashes \
	    -r requirements.lock || $(PIP_INSTALL) requirements.lock; fi
	@touch $@

.PHONY: help up start stop status send reconcile rebuild test lint bench chaos docs lock clean jars
