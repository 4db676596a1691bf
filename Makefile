# One entry for every chore; `make help` lists them. Works from a clean clone with python3 (>= 3.11) and make.

PYTHON ?= python3
SOURCE ?=
DATA ?= data
DAGSTER_PORT ?= 3000
SERVICE_PORT ?= 8000
ORIGINALS ?=
ARGS ?=
# Files of tests that run at a time.
TEST_PROCESSES ?= 2

SHELL := /bin/bash
BIN := .venv/bin
# What the targets run: embup without Ray and stores of vectors. What checks it: everything.
STAMP := .venv/.installed
DEV_STAMP := .venv/.installed-dev
# The one pin of torch stands in pyproject.toml. Installed by itself and first: resolved together with the
# rest, pip may take a build several gigabytes large.
TORCH := $(shell sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
# Other interpreters, on which decoding is tested where they are found, with these tests and what those need.
PYTHONS ?= python3.12 python3.13 $(wildcard $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python)
DECODING_TESTS := tests/embup_core/text tests/embup_core/artifacts tests/embup_core/batch
DECODING_TEST_NEEDS := duckdb hypothesis polars pytest pytest-timeout scikit-learn scipy

export DAGSTER_DISABLE_TELEMETRY := 1
# Threads that wait for each other sleep instead of spinning: fits several times faster on a busy machine.
export OMP_WAIT_POLICY := PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help venv lock demo test test-slow test-crash test-container test-pythons lint format types contracts definitions security audit docs templates check openapi dev train serve bench year clean

help: ## list the targets
	@echo "usage: make TARGET [NAME=value …]"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

venv: $(DEV_STAMP) ## make .venv and install everything into it

$(DEV_STAMP): $(STAMP)
	@echo "Installing the tools of tests and checks."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(STAMP): pyproject.toml constraints.txt $(wildcard embup_core/*/*.c embup_core/*/*/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: embup needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "Install one and name it: make venv PYTHON=python3.12" >&2; exit 1; }
	@# Debian keeps what venv needs in a package of its own, which root may install.
	@has_venv() { $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; }; has_venv \
	|| { [ "$$(id -u)" = 0 ] && echo "Installing Debian's python3-venv." && apt-get update -qq \
	  && apt-get install -qq -y python3-venv >/dev/null && has_venv; } 2>/dev/null \
	|| { echo "error: $(PYTHON) has no venv module (Debian keeps it in a package of its own)." >&2; \
	  echo "Install it: sudo apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing embup into .venv; the first time this takes a few minutes."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet '$(TORCH)'
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dagster,debug,notify,otel,s3,serve]'
	@touch $@

lock: ## renew constraints.txt with the newest versions in the ranges of pyproject.toml; takes minutes
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(PYTHON) -m venv "$$folder" && pip="$$folder/bin/python -m pip" && \
	$$pip install --quiet '$(TORCH)' && $$pip install --quiet --editable '.[dev]' && \
	{ echo '# The versions that the tests ran with. `make lock` renews them.'; \
	  $$pip freeze --exclude-editable | sed 's/+[^ ]*//; / @ /d'; } > constraints.txt.new && \
	mv constraints.txt.new constraints.txt

demo: $(STAMP) ## train, publish, serve, one request, one batch, a report [SOURCE=folder]
	@$(BIN)/embup demo $(if $(SOURCE),--source '$(SOURCE)') --work '$(DATA)/demo' $(ARGS)

# A busy machine may starve a deadline: what failed runs once more by itself, and has to pass then.
test: $(DEV_STAMP) ## run the tests but the slow ones [ARGS="-k name"]
	@$(BIN)/pytest -m "not slow" --numprocesses $(TEST_PROCESSES) --dist loadfile $(ARGS) \
	|| { [ $$? -eq 1 ] && echo "== once more, what failed" && $(BIN)/pytest -m "not slow" --last-failed $(ARGS); }

test-slow: $(DEV_STAMP) ## all decoders fitted, on real embeddings too; README; benchmarks in small [ARGS="-k name"]
	@$(BIN)/pytest -m slow $(ARGS)

test-crash: $(DEV_STAMP) ## hundreds of kills, faults, full disks, odd files, where `make test` has a few [ARGS="-k name"]
	@EMBUP_CRASH_SCALE=full EMBUP_MUTATED_ARTIFACTS=20000 EMBUP_UPGRADES=50 EMBUP_SWAP_S=60 \
	  EMBUP_CONTRACT_CASES=5000 $(BIN)/pytest --timeout 7200 \
	  tests/crash tests/debugger/test_kills.py tests/embup_core/text/test_grammar.py tests/embup_core/artifacts/test_mutated_artifacts.py \
	  $(wildcard tests/embup_core/batch/test_generated_*.py) tests/embup_core/batch/test_long_line.py \
	  tests/serving/decoders/test_upgrades.py tests/serving/sql/test_hostile_sql.py tests/serving/jobs/test_symlink_swaps.py \
	  tests/serving/api/test_contract.py $(ARGS)

test-container: $(DEV_STAMP) ## run the steps of the service's image without an engine, and start it; a minute, as root
	@EMBUP_CONTAINER_TEST=1 $(BIN)/pytest tests/e2e/test_container.py $(ARGS)

test-pythons: ## install embup for decoding under each of PYTHONS that is found, and run the tests of that
	@tried=; for python in $(PYTHONS); do \
	  version=$$("$$python" -c 'import platform; print(platform.python_version())' 2>/dev/null) || continue; \
	  case " $$tried " in *" $$version "*) continue;; esac; tried="$$tried $$version"; \
	  echo "== Python $$version"; \
	  folder=$$(mktemp -d) && ( trap 'rm -rf "$$folder" build' EXIT; "$$python" -m venv "$$folder" \
	  && "$$folder/bin/python" -m pip install --quiet --constraint constraints.txt '.[parquet]' $(DECODING_TEST_NEEDS) \
	  && "$$folder/bin/python" -m pytest -m "not slow" $(DECODING_TESTS) $(ARGS) ) || exit 1; \
	done; [ -n "$$tried" ] || echo "none of $(PYTHONS) is installed; name some with PYTHONS=…"

lint: $(DEV_STAMP) ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(DEV_STAMP) ## ruff: mend what can be mended
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

types: $(DEV_STAMP) ## mypy, strict
	@$(BIN)/mypy

contracts: $(DEV_STAMP) ## import-linter: which package may import which
	@$(BIN)/lint-imports --no-logo

definitions: $(DEV_STAMP) ## load the Dagster definitions as Dagster does
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	DAGSTER_HOME="$$home" $(BIN)/dagster definitions validate -w workspace.yaml

security: $(DEV_STAMP) ## bandit: patterns that are known to be dangerous
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive debugger embup_core embup_client serving pipelines embup

# Strict, because a package that the service does not know counts as harmless otherwise. It knows no local
# versions such as +cpu.
audit: security ## known vulnerabilities of what is installed; needs the network
	@list=$$(mktemp) && trap 'rm -f "$$list"' EXIT && \
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[^ ]*//; / @ /d' > "$$list" && \
	$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement "$$list" $(ARGS)

docs: $(DEV_STAMP) ## build the documentation's site into site/; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # --quiet would hide warnings from --strict, too

templates: $(DEV_STAMP) ## cfn-lint: the infrastructure of deploy/
	@$(BIN)/cfn-lint deploy/aws/template.yaml

check: lint types contracts definitions security docs templates ## all of these checks; tests are `make test`

openapi: $(STAMP) ## write openapi.json, the service's description, anew
	@$(BIN)/python -m serving.openapi > openapi.json.new && mv openapi.json.new openapi.json

dev: $(STAMP) ## Dagster UI and the service on one data folder [DAGSTER_PORT=3000 SERVICE_PORT=8000 DATA=data]
	@echo "Dagster UI  http://127.0.0.1:$(DAGSTER_PORT)"
	@echo "console     http://127.0.0.1:$(SERVICE_PORT)"
	@echo "Ctrl-C stops both."
	@# Job control gives each server a process group of its own. Without it the shell would start them deaf to
	@# SIGINT, which Dagster takes as a wish to be deaf to SIGTERM too. So Ctrl-C reaches this shell alone, and
	@# it passes it on, once. Who started make may be deaf to SIGINT already, hence env. When either server ends
	@# by itself, the other is stopped too. A training that Dagster runs outlives it unless its group is told.
	@set -m; \
	stop() { trap '' INT TERM; kill -TERM $$dagster $$service 2>/dev/null; wait; \
	  kill -TERM -- -$$dagster 2>/dev/null && sleep 5 && kill -KILL -- -$$dagster 2>/dev/null; true; }; \
	trap 'stop; exit 0' INT TERM; \
	home=$$($(BIN)/python -m pipelines.instance '$(DATA)') || exit 1; \
	export EMBUP_DATA='$(abspath $(DATA))' EMBUP_REGISTRY='$(abspath $(DATA))/registry'; \
	export EMBUP_SERVICE_URL='http://127.0.0.1:$(SERVICE_PORT)'; \
	DAGSTER_HOME="$$home" env --default-signal=INT $(BIN)/dagster dev -w workspace.yaml -p $(DAGSTER_PORT) & dagster=$$!; \
	$(BIN)/embup serve --port $(SERVICE_PORT) & service=$$!; \
	wait -n; code=$$?; stop; exit $$code

train: $(STAMP) ## train and publish into DATA/registry [SOURCE=folder]
	@$(BIN)/embup train $(if $(SOURCE),--source '$(SOURCE)') --registry '$(DATA)/registry' --data '$(DATA)' $(ARGS)

serve: $(STAMP) ## the service alone, on DATA/registry [SERVICE_PORT=8000]
	@exec $(BIN)/embup serve --registry '$(DATA)/registry' --data '$(DATA)' --port $(SERVICE_PORT) $(ARGS)

bench: $(DEV_STAMP) ## measure text, batch, realtime, metrics' cost and memory; says how to measure the decoders
	@for name in text batch realtime observability memory; do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done
	@echo "On your own data, with --source DIR: python -m benchmarks.decoders, benchmarks.scale, benchmarks.storage"

year: $(DEV_STAMP) ## twelve monthly drops in a bucket, with planted faults [ORIGINALS=FILE.npy DATA=data]
	@$(BIN)/python -m benchmarks.year $(if $(ORIGINALS),--originals '$(ORIGINALS)') --folder '$(DATA)/year' \
	  --plot '$(DATA)/year/year.png' --json '$(DATA)/year/year.json' $(ARGS)

clean: ## remove .venv, caches and build products; data/ stays
	@rm -rf .venv build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
