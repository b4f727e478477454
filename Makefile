# The targets of the project; `make` alone lists them. Requires Python 3.11 or newer only.

PYTHON ?= python3
PORT ?= 8080
# Of `make test`, whose tests often wait: more workers than two cores are faster.
WORKERS ?= 4

BIN := .venv/bin
READY := .venv/.ready
PACKAGES := node_modules/.package-lock.json
PEERS := .build/bench/.ready

.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
# Images of containers often set this variable. Then each of the many processes of a stack and of a
# test run would compile the same sources and packages again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)

# Runs again when uv.lock or the Python version changes; takes seconds.
$(READY): pyproject.toml uv.lock devtools/bootstrap.py
	@$(PYTHON) devtools/bootstrap.py >&2

$(PACKAGES): package-lock.json | $(READY)
	@$(BIN)/python -m devtools setup
	@touch $@

.PHONY: setup
setup: $(READY) $(PACKAGES) ## install .venv and node_modules from the lock files

.PHONY: run
run: $(READY) ## run the whole stack on this machine (PORT=8080) until Ctrl-C
	@exec $(BIN)/python -m local --port $(PORT) run --stop-with-parent $(if $(ACCEPT),--accept $(ACCEPT))

.PHONY: migrate
migrate: $(READY) ## run the waiting migrations of the running stack (PORT=8080), after a confirmation
	@exec $(BIN)/python -m local --port $(PORT) migrate $(if $(ACCEPT),--accept $(ACCEPT))

.PHONY: load
load: $(READY) ## write real countries and cities into the running stack (PORT=8080)
	@exec $(BIN)/python -m loader --port $(PORT)

.PHONY: psql
psql: $(READY) ## open psql on the running database (PORT=8080, REPLICA=1 for the replica)
	@exec $(BIN)/python -m local --port $(PORT) psql $(if $(REPLICA),--replica)

.PHONY: credentials
credentials: $(READY) ## print keys and addresses of the running stack for a shell: eval "$$(make -s credentials)"
	@exec $(BIN)/python -m local --port $(PORT) credentials

.PHONY: token
token: $(READY) ## print an access token of a client (CLIENT=loader), if the stack requires tokens
	@test -n "$(CLIENT)" || { echo 'CLIENT is missing: make token CLIENT=loader' >&2; exit 2; }
	@exec $(BIN)/python -m local --port $(PORT) token $(CLIENT)

.PHONY: forebay
forebay: $(READY) ## run the operators' command line (ARGS="verify --env local")
	@exec $(BIN)/forebay $(ARGS)

.PHONY: reset
reset: $(READY) ## delete the local databases and archive, after a confirmation
	@exec $(BIN)/python -m local reset

.PHONY: test
test: $(READY) $(PACKAGES) ## run all tests except runbooks and long tests (WORKERS=4)
	@$(MAKE) --no-print-directory test-contract
	@exec $(BIN)/python -m pytest -m "not long and not runbook and not history and not soak and (not fault or quick)" -n $(WORKERS) --maxprocesses 4 --dist loadgroup

# All other tests use the resources in tests/project.
.PHONY: test-contract
test-contract: $(READY) ## try each resource in resources/: write, replay, read, write back, delete
	@exec $(BIN)/python -m pytest -o pythonpath=. -n 1 tests/contract

.PHONY: test-e2e
test-e2e: $(READY) $(PACKAGES) ## run the tests that need the whole stack
	@exec $(BIN)/python -m pytest -m "e2e and not long and not runbook" -n 2 --dist loadgroup

.PHONY: test-containers
test-containers: $(READY) ## run the tests that need only Postgres, in containers (FOREBAY_POSTGRES_IMAGE=postgres:18)
	@FOREBAY_DELIVERIES=60 FOREBAY_HISTORIES=30 $(BIN)/python -m tests.fixtures.containers $(BIN)/python -m pytest \
		-m "postgres and not long and not fault" --postgres=containers -n 2 --dist loadgroup

.PHONY: test-runbooks
test-runbooks: $(READY) $(PACKAGES) ## execute every runbook, the tutorial and the shop as written
	@exec $(BIN)/python -m pytest -m runbook

# Only a full run updates the page; a short run stores its results in .build.
FAULT_RESULTS := $(if $(FOREBAY_FAULT_SECONDS),.build/faults.json,docs/reliability.json)
.PHONY: test-faults
test-faults: $(READY) $(PACKAGES) ## measure faults for docs/reliability.md; 20 minutes (FOREBAY_FAULT_SECONDS=12: 10)
	@FOREBAY_FAULT_RESULTS=$(FAULT_RESULTS) $(BIN)/python -m pytest -m fault
	$(if $(FOREBAY_FAULT_SECONDS),,@$(BIN)/python -m tests.faults.report)

.PHONY: faults-report
faults-report: $(READY) ## write the tables of docs/reliability.md from docs/reliability.json
	@$(BIN)/python -m tests.faults.report

.PHONY: test-history
test-history: $(READY) $(PACKAGES) ## check the histories of clients of a stack with constant faults (SEEDS="1 2 3", SECONDS_EACH=60)
	@FOREBAY_HISTORY_SEEDS="$(or $(SEEDS),1)" FOREBAY_HISTORY_SECONDS=$(or $(SECONDS_EACH),60) \
		$(BIN)/python -m pytest -m history

.PHONY: test-crossings
test-crossings: $(READY) $(PACKAGES) ## run scheduled histories of all processes together (HISTORIES=300, SEED=0)
	@FOREBAY_HISTORIES=$(or $(HISTORIES),300) FOREBAY_CROSSINGS_SEED=$(or $(SEED),0) \
		$(BIN)/python -m pytest tests/crossings -m "not long" -n auto --maxprocesses 4 --dist loadgroup

.PHONY: soak
soak: $(READY) $(PACKAGES) ## run the same for half an hour, and check memory (FOREBAY_SOAK_SECONDS=1800)
	@exec $(BIN)/python -m pytest -m soak -s

.PHONY: test-long
test-long: $(READY) ## run the long tests: minutes of examples
	@exec $(BIN)/python -m pytest -m long

# Contains the peers too, which only the benchmarks need.
$(PEERS): pyproject.toml uv.lock | $(READY)
	@UV_PROJECT_ENVIRONMENT=.build/bench $(BIN)/uv sync --frozen --quiet --group bench
	@touch $@

.PHONY: bench
bench: $(PEERS) $(PACKAGES) ## run benchmarks for minutes (NAMES="apply rebuild", QUICK=1) into bench/results
	@exec .build/bench/bin/python -m bench $(NAMES) $(if $(QUICK),--quick)
	@exec .build/bench/bin/python -m bench.report

.PHONY: bench-report
bench-report: $(READY) ## write the tables of docs/performance.md from bench/results
	@exec $(BIN)/python -m bench.report

.PHONY: bench-load
bench-load: $(READY) $(PACKAGES) ## measure writes and reads up to saturation, and the load of the primary (NAMES=shelter, QUICK=1)
	@$(BIN)/python -m bench.load $(NAMES) $(if $(QUICK),--quick) $(ARGS)
	$(if $(QUICK),,@$(BIN)/python -m bench.load.report)

# The rules for the user's files (resources/, migrations/versions/) find faults only: syntax errors,
# undefined names, and fields or classes that a later definition of the same name replaces.
USER_RULES := E9,F63,F7,F811,F82,PIE794

.PHONY: check
check: $(READY) ## run all other checks of CI: format, lint, types, imports, declarations, migrations
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/ruff check --isolated --no-cache --target-version py311 --select $(USER_RULES) resources migrations/versions
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m devtools declarations
	$(BIN)/python -m devtools openapi --check
	$(BIN)/python -m local alembic check
	$(BIN)/python -m local alembic --core check

.PHONY: audit
audit: $(READY) $(PACKAGES) ## check the locked packages for known vulnerabilities
	@exec $(BIN)/python -m devtools audit

.PHONY: openapi
openapi: $(READY) ## write the description of the API, docs/openapi.json
	@$(BIN)/python -m devtools openapi

.PHONY: cost-page
cost-page: $(READY) ## write the figures of docs/cost.md from the environments of the tests
	@FOREBAY_ENVIRONMENTS=tests/project/environments $(BIN)/python -m tests.unit.cost.page

.PHONY: fmt
fmt: $(READY) ## format, and apply the fixes of ruff
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: migration
migration: $(READY) ## write a migration for changed resources (m="title", RENAME=cities.old:new)
	@test -n "$(m)" || { echo 'm is missing: make migration m="Add rivers"' >&2; exit 2; }
	@MIGRATION_RENAME="$(RENAME)" $(BIN)/python -m local migration -m "$(m)"

.PHONY: synth
synth: $(READY) $(PACKAGES) ## synthesise the CloudFormation templates of an environment (ENV=dev)
	@exec $(BIN)/python -m devtools cdk synth --quiet -c env=$(or $(ENV),dev)

.PHONY: preflight
preflight: $(READY) $(PACKAGES) ## check the account before a deployment: quotas, names, versions (ENV=prod, JSON=1, TRIAL=1)
	@exec $(BIN)/python -m devtools preflight $(or $(ENV),dev) $(if $(JSON),--json) $(if $(TRIAL),--trial)

# The CDK's CLI is the one of package-lock.json; ARGS are more of its options. STACKS="a b" names
# some of the stacks, without those that they depend on.
CDK = $(BIN)/python -m devtools cdk
SELECTED = $(if $(STACKS),$(STACKS) --exclusively,--all)
NAME_ENV = test -n "$(ENV)" || { echo 'ENV is missing: make $@ ENV=dev' >&2; exit 2; }

.PHONY: bootstrap
bootstrap: $(READY) $(PACKAGES) ## prepare the account for the CDK, in each region of an environment (ENV=dev, POLICY=arn)
	@$(NAME_ENV)
	@exec $(CDK) bootstrap -c env=$(ENV) $(if $(POLICY),--cloudformation-execution-policies $(POLICY)) $(ARGS)

.PHONY: diff
diff: $(READY) $(PACKAGES) ## compare the templates with the deployed stacks (ENV=dev, STACKS=, ARGS=)
	@$(NAME_ENV)
	@exec $(CDK) diff $(if $(STACKS),$(STACKS) --exclusively) -c env=$(ENV) $(ARGS)

.PHONY: deploy
deploy: $(READY) $(PACKAGES) ## deploy an environment to AWS (ENV=dev, STACKS=, ARGS="--no-rollback")
	@$(NAME_ENV)
	@exec $(CDK) deploy $(SELECTED) -c env=$(ENV) $(ARGS)

.PHONY: destroy
destroy: $(READY) $(PACKAGES) ## delete the stacks of an environment on AWS, after its name is typed (ENV=dev)
	@$(NAME_ENV)
	@exec $(BIN)/python -m devtools destroy $(ENV) $(if $(ACCEPT),--accept $(ACCEPT))

# KEY and TOKEN may be environment variables, so that they appear in no command line. Instead of
# TOKEN, TOKEN_URL, CLIENT_ID and CLIENT_SECRET have a token fetched.
.PHONY: smoke
smoke: $(READY) ## test a deployed API (URL=https://…/v1, KEY=, TOKEN=); it only reads without WRITE=resource
	@test -n "$(URL)" || { echo 'URL is missing: make smoke URL=https://…/v1' >&2; exit 2; }
	@exec $(BIN)/python -m infra.smoke "$(URL)" $(if $(WRITE),--write $(WRITE)) $(if $(ITEM),--item "$$ITEM")

.PHONY: changes
changes: $(READY) $(PACKAGES) ## compare the settings with what is deployed on AWS, before a deployment (ENV=prod)
	@exec $(BIN)/python -m devtools changes $(or $(ENV),dev)

.PHONY: templates
templates: $(READY) $(PACKAGES) ## synthesise and check the templates of every environment
	@exec $(BIN)/python -m devtools templates

.PHONY: clean
clean: ## delete all generated files, but not the stack's state
	rm -rf .venv .build cdk.out node_modules .mypy_cache .pytest_cache .ruff_cache \
		.hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
