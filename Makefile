# Every chore of the project; `make` alone lists them. Needs Python 3.11 or newer, nothing else.

PYTHON ?= python3
PORT ?= 8080

BIN := .venv/bin
READY := .venv/.ready
PACKAGES := node_modules/.package-lock.json
PEERS := .build/bench/.ready

.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

.PHONY: help
help: ## list these chores
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)

# Done again when the lock file or the Python it is for changes, which takes seconds.
$(READY): pyproject.toml uv.lock local/bootstrap.py
	@$(PYTHON) local/bootstrap.py >&2

$(PACKAGES): package-lock.json | $(READY)
	@$(BIN)/python -m local setup
	@touch $@

.PHONY: setup
setup: $(READY) $(PACKAGES) ## make .venv and node_modules as the lock files say

.PHONY: run
run: $(READY) ## start everything on this machine (PORT=8080), until Ctrl-C
	@exec $(BIN)/python -m local --port $(PORT) run --stop-with-parent $(if $(ACCEPT),--accept $(ACCEPT))

.PHONY: migrate
migrate: $(READY) ## run the migrations for which the running stack (PORT=8080) waits, after asking
	@exec $(BIN)/python -m local --port $(PORT) migrate $(if $(ACCEPT),--accept $(ACCEPT))

.PHONY: load
load: $(READY) ## put real countries and cities into the running stack (PORT=8080)
	@exec $(BIN)/python -m local.load --port $(PORT)

.PHONY: psql
psql: $(READY) ## a prompt of the running database (PORT=8080, REPLICA=1 for the replica)
	@exec $(BIN)/python -m local --port $(PORT) psql $(if $(REPLICA),--replica)

.PHONY: credentials
credentials: $(READY) ## keys and addresses of the running stack, for a shell: eval "$$(make -s credentials)"
	@exec $(BIN)/python -m local --port $(PORT) credentials

.PHONY: token
token: $(READY) ## an access token of a program (CLIENT=loader), where the running stack asks for tokens
	@test -n "$(CLIENT)" || { echo 'say whose token: make token CLIENT=loader' >&2; exit 2; }
	@exec $(BIN)/python -m local --port $(PORT) token $(CLIENT)

.PHONY: forebay
forebay: $(READY) ## the operators' command line (ARGS="verify --env local")
	@exec $(BIN)/forebay $(ARGS)

.PHONY: reset
reset: $(READY) ## delete the local databases and the local archive, after asking
	@exec $(BIN)/python -m local reset

.PHONY: test
test: $(READY) $(PACKAGES) ## all tests but the runbooks and the long ones
	@exec $(BIN)/python -m pytest -m "not long and not runbook and not history and not soak and (not fault or quick)" -n auto --maxprocesses 4 --dist loadgroup

.PHONY: test-e2e
test-e2e: $(READY) $(PACKAGES) ## only the tests that need the whole stack
	@exec $(BIN)/python -m pytest -m "e2e and not long and not runbook" -n 2 --dist loadgroup

.PHONY: test-containers
test-containers: $(READY) ## those that need only Postgres, in containers (FOREBAY_POSTGRES_IMAGE=postgres:18)
	@FOREBAY_DELIVERIES=60 FOREBAY_HISTORIES=30 $(BIN)/python -m tests.fixtures.containers $(BIN)/python -m pytest \
		-m "postgres and not long and not fault" --postgres=containers -n 2 --dist loadgroup

.PHONY: test-runbooks
test-runbooks: $(READY) $(PACKAGES) ## every runbook and the tutorial as they are written
	@exec $(BIN)/python -m pytest -m runbook

# The page is made from a full run only; one in a hurry keeps its results to itself.
FAULT_RESULTS := $(if $(FOREBAY_FAULT_SECONDS),.build/faults.json,docs/reliability.json)
.PHONY: test-faults
test-faults: $(READY) $(PACKAGES) ## what fails, measured, for docs/reliability.md; 20 minutes (FOREBAY_FAULT_SECONDS=12: 10)
	@FOREBAY_FAULT_RESULTS=$(FAULT_RESULTS) $(BIN)/python -m pytest -m fault
	$(if $(FOREBAY_FAULT_SECONDS),,@$(BIN)/python -m tests.faults.report)

.PHONY: faults-report
faults-report: $(READY) ## write the tables of docs/reliability.md from docs/reliability.json
	@$(BIN)/python -m tests.faults.report

.PHONY: test-history
test-history: $(READY) $(PACKAGES) ## clients of a stack that fails all the time; their histories are checked (SEEDS="1 2 3", SECONDS_EACH=60)
	@FOREBAY_HISTORY_SEEDS="$(or $(SEEDS),1)" FOREBAY_HISTORY_SECONDS=$(or $(SECONDS_EACH),60) \
		$(BIN)/python -m pytest -m history

.PHONY: test-crossings
test-crossings: $(READY) $(PACKAGES) ## scheduled histories of everything at once (HISTORIES=300, SEED=0)
	@FOREBAY_HISTORIES=$(or $(HISTORIES),300) FOREBAY_CROSSINGS_SEED=$(or $(SEED),0) \
		$(BIN)/python -m pytest tests/crossings -m "not long" -n auto --maxprocesses 4 --dist loadgroup

.PHONY: soak
soak: $(READY) $(PACKAGES) ## the same for half an hour, with an eye on memory (FOREBAY_SOAK_SECONDS=1800)
	@exec $(BIN)/python -m pytest -m soak -s

.PHONY: test-long
test-long: $(READY) ## the long ones: minutes of examples
	@exec $(BIN)/python -m pytest -m long

# Has the peers as well, which nothing else needs.
$(PEERS): pyproject.toml uv.lock | $(READY)
	@UV_PROJECT_ENVIRONMENT=.build/bench $(BIN)/uv sync --frozen --quiet --group bench
	@touch $@

.PHONY: bench
bench: $(PEERS) $(PACKAGES) ## measure, for minutes (NAMES="apply rebuild", QUICK=1), into bench/results
	@exec .build/bench/bin/python -m bench $(NAMES) $(if $(QUICK),--quick)
	@exec .build/bench/bin/python -m bench.report

.PHONY: bench-report
bench-report: $(READY) ## write the tables of docs/performance.md from bench/results
	@exec $(BIN)/python -m bench.report

.PHONY: bench-load
bench-load: $(READY) $(PACKAGES) ## load writes and reads up to saturation, and count what the primary does (NAMES=shelter, QUICK=1)
	@$(BIN)/python -m bench.load $(NAMES) $(if $(QUICK),--quick) $(ARGS)
	$(if $(QUICK),,@$(BIN)/python -m bench.load.report)

# The rules for the user's files (resources/, migrations/versions/) find faults only: syntax errors,
# undefined names, and fields or classes that a later definition of the same name replaces.
USER_RULES := E9,F63,F7,F811,F82,PIE794

.PHONY: check
check: $(READY) ## what CI checks besides the tests: format, lint, types, imports, declarations, migrations
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/ruff check --isolated --no-cache --target-version py311 --select $(USER_RULES) resources migrations/versions
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m local declarations
	$(BIN)/python -m local alembic check

.PHONY: audit
audit: $(READY) $(PACKAGES) ## ask PyPI and npm for known holes in what the lock files name
	@exec $(BIN)/python -m local audit

.PHONY: openapi
openapi: $(READY) ## write the description of the API, docs/openapi.json
	@$(BIN)/python -m local openapi

.PHONY: fmt
fmt: $(READY) ## format, and repair what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: migration
migration: $(READY) ## write a migration for changed resources (m="what it does", RENAME=cities.old:new)
	@test -n "$(m)" || { echo 'say what it does: make migration m="Add rivers"' >&2; exit 2; }
	@MIGRATION_RENAME="$(RENAME)" $(BIN)/python -m local migration -m "$(m)"

.PHONY: synth
synth: $(READY) $(PACKAGES) ## make the CloudFormation templates of an environment (ENV=dev)
	@exec $(BIN)/python -m local cdk synth --quiet -c env=$(or $(ENV),$(env),dev)

.PHONY: templates
templates: $(READY) $(PACKAGES) ## make the templates of every environment, and check them
	@exec $(BIN)/python -m local templates

.PHONY: clean
clean: ## delete what the chores made, but not the stack's state
	rm -rf .venv .build cdk.out node_modules .mypy_cache .pytest_cache .ruff_cache \
		.hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
