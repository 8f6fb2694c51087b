# Run `make` for the list of commands.

PYTHON ?= python3
uv := $(shell command -v uv 2>/dev/null)

# One environment has everything. `make run` and `make migrate` take it while it is
# up to date, and otherwise install the runtime packages alone.
DEV := .venv
RUN := $(shell [ $(DEV)/stamp -nt requirements-dev.txt ] && echo $(DEV) || echo .venv-run)

.DEFAULT_GOAL := help
.PHONY: help setup run test lint format types contracts migration migrate requirements docs check

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

setup: $(DEV)/stamp ## Make the development environment in .venv

run: export REDIS_URL ?=
run: export API_KEY ?= development-key
run: $(RUN)/stamp ## Serve on http://localhost:8080 with SQLite and without Redis
	@exec $(RUN)/bin/python app.py

test: $(DEV)/stamp ## Run the tests, in random order on every core
	$(DEV)/bin/pytest -n logical

lint: $(DEV)/stamp ## Check style, format and spelling
	$(DEV)/bin/ruff check
	$(DEV)/bin/ruff format --check
	$(DEV)/bin/codespell

format: $(DEV)/stamp ## Repair style and format where a tool can
	$(DEV)/bin/ruff check --fix
	$(DEV)/bin/ruff format

types: $(DEV)/stamp ## Check the types
	$(DEV)/bin/mypy

contracts: $(DEV)/stamp ## Check who imports whom
	$(DEV)/bin/lint-imports

check: lint types contracts test ## Do all that CI does

migration: $(DEV)/stamp ## Write a migration from the models: make migration m="add teams"
	@[ -n "$$m" ] || { echo 'Say what changes: make migration m="add teams"' >&2; exit 2; }
	$(DEV)/bin/alembic revision --autogenerate -m "$$m"

migrate: $(RUN)/stamp ## Bring the database up to date
	$(RUN)/bin/python app.py admin migrate

docs: $(DEV)/stamp ## Write the generated documentation anew
	$(DEV)/bin/python docs/generate.py

requirements: ## Lock requirements*.in; upgrade=1 takes the newest releases
	$(call lock,requirements)
	$(call lock,requirements-dev)

lock = $(or $(uv),$(error make requirements needs uv, see https://docs.astral.sh/uv/)) pip compile --quiet \
	--universal --python-version 3.11 --generate-hashes --custom-compile-command "make requirements" \
	$(if $(upgrade),--upgrade) $(1).in --output-file $(1).txt

# The stamp is written last, so an interrupted installation is begun again.
$(DEV)/stamp: requirements-dev.txt
.venv-run/stamp: requirements.txt
%/stamp:
	@echo "Installing $< into $(@D)"
	@$(install)
	@touch $@

ifneq ($(uv),)
install = $(uv) venv --quiet --clear --python $(python) $(@D) && \
	$(uv) pip install --quiet --python $(@D) --require-hashes -r $<
else
install = $(python_with_venv) -m venv --clear $(@D) && \
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
endif

# $(PYTHON) when it is new enough; unless another one was asked for, any that is.
candidates = $(PYTHON) $(if $(filter python3,$(PYTHON)),python3.14 python3.13 python3.12 python3.11)
is_recent = import sys; sys.exit(sys.version_info < (3, 11))
found = $(shell for python in $(candidates); do \
	$$python -c '$(is_recent)' >/dev/null 2>&1 && echo $$python && break; done)
version = $(or $(shell $(PYTHON) --version 2>/dev/null),missing)
python = $(or $(found),$(error Python 3.11 or newer is needed, and $(PYTHON) is $(version)))

can_install = $(shell $(python) -c 'import ensurepip, venv' 2>/dev/null && echo yes)
python_with_venv = $(if $(can_install),$(python),$(error $(python) has no venv module: install python3-venv or uv))
