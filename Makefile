# Run `make` for the list of commands.

PYTHON ?= python3
uv := $(shell command -v uv 2>/dev/null)

# One environment has everything. `make run` and `make migrate` take it while it is
# up to date, and otherwise install the runtime packages alone.
# Programs are modules there: a script names the folder that it was installed in, and would end
# when the clone is moved.
DEV := .venv
MANIFESTS := build/manifests
RUN := $(shell [ $(DEV)/stamp -nt requirements-dev.txt ] && echo $(DEV) || echo .venv-run)

.DEFAULT_GOAL := help
.PHONY: help setup run demo test quick browser screenshot dashboard chaos fuzz fuzz-proxies lint format types contracts migration migrate requirements docs figures check \
	manifests image image-again image-test image-report
.PHONY: rename release exercise
.PHONY: bench bench-quick bench-growth bench-import bench-instructions bench-telemetry bench-profile bench-micro bench-record

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-19s %s\n", $$1, $$2 }' Makefile

setup: $(DEV)/stamp ## Make the development environment in .venv

run: export REDIS_URL ?=
run: export API_KEY ?= development-key
run: export EMAIL_ON_TERMINAL ?= true
run: export BIND_ADDRESS ?= 127.0.0.1
run: $(RUN)/stamp ## Serve on http://localhost:8080 with SQLite and without Redis
	@exec $(RUN)/bin/python app.py

demo: $(RUN)/stamp ## Add twenty invented users to the database of `make run`
	$(RUN)/bin/python app.py admin migrate
	$(RUN)/bin/python app.py admin import --format csv tools/demo.csv

test: $(DEV)/stamp ## Run all tests, in random order on every core; some minutes
	$(DEV)/bin/python -m pytest -n logical

resources := $(patsubst userservice/%/resource.py,tests/%,$(wildcard userservice/*/resource.py))
quick: $(DEV)/stamp ## Run the tests of the resources, on SQLite alone and without the slow ones
	$(DEV)/bin/python -m pytest -n logical -k "not postgresql" \
		-m "not slow and not integration and not browser" $(wildcard $(resources))

browser: $(DEV)/stamp ## Drive the page /account in Chromium, where one is installed
	$(DEV)/bin/python -m pytest -m browser tests/account

screenshot: $(DEV)/stamp ## Photograph that page and /docs for the documentation
	$(DEV)/bin/python -m tests.account.screenshot
	$(DEV)/bin/python -m tests.pictures.api

dashboard: $(DEV)/stamp ## Draw the dashboard under a real load, in 6 minutes; needs prometheus
	$(DEV)/bin/python -m tests.pictures.dashboard

chaos: $(DEV)/stamp ## Break things at random under load: make chaos seconds=120 seed=1; help=1 lists the faults
	$(DEV)/bin/python -m tests.support.chaos $(if $(help),--help) $(if $(seconds),--seconds $(seconds)) $(if $(seed),--seed $(seed))

# The check comes last: what the formatter repairs is no failure.
define tidy
$(DEV)/bin/python -m ruff check --fix-only --quiet $(1)
$(DEV)/bin/python -m ruff format --quiet $(1)
$(DEV)/bin/python -m ruff check --quiet $(1)
endef

fuzz: $(DEV)/stamp ## Compare our reader of HTTP with another parser: make fuzz inputs=100000 seed=1
	PYTHONPATH=. $(DEV)/bin/python tests/http/fuzz.py $(if $(inputs),--inputs $(inputs)) $(if $(seed),--seed $(seed))

fuzz-proxies: $(DEV)/stamp ## Attack the service behind nginx and HAProxy: make fuzz-proxies requests=20000 seed=1
	PYTHONPATH=. $(DEV)/bin/python -m tests.http.behind_proxies $(if $(requests),--requests $(requests)) $(if $(seed),--seed $(seed))

lint: $(DEV)/stamp ## Check style, format and spelling
	$(DEV)/bin/python -m ruff check
	$(DEV)/bin/python -m ruff format --check
	$(DEV)/bin/python -m codespell_lib

format: $(DEV)/stamp ## Repair style and format where a tool can
	$(call tidy)

types: $(DEV)/stamp ## Check the types
	$(DEV)/bin/python -m mypy

contracts: $(DEV)/stamp ## Check who imports whom
	$(DEV)/bin/python -c 'from importlinter.cli import lint_imports_command as lint; lint()'

# All of them, so that a change that several refuse is told so once.
check: ## Do all that CI does
	@$(MAKE) --keep-going lint types contracts test

exercise: $(DEV)/stamp ## Add a resource to a clone as CONTRIBUTING.md says, and check it there
	$(DEV)/bin/python -m tests.exercise.steps

migration: $(DEV)/stamp ## Write a migration from the models: make migration m="add teams"
	@[ -n "$$m" ] || { echo 'Say what changes: make migration m="add teams"' >&2; exit 2; }
	$(DEV)/bin/python -m tests.upgrades.revision "$$m"
	$(call tidy,migrations)

rename: ## Give a fresh clone its own names: make rename name=orders-api package=orders owner=acme
	@[ -n "$(name)$(package)" ] || { echo 'Say the names: make rename name=orders-api package=orders owner=acme' >&2; exit 2; }
	@$(python) tools/rename.py --name="$(name)" --package="$(package)" --owner="$(owner)"

release: ## Make a version of what CHANGELOG.md has unreleased: make release version=0.1.0
	@[ -n "$(version)" ] || { echo 'Say the version: make release version=0.1.0' >&2; exit 2; }
	@$(python) tools/release.py cut "$(version)"

migrate: $(RUN)/stamp ## Bring the database up to date
	$(RUN)/bin/python app.py admin migrate

figures: ## Show how large files and functions are, and which rooms import which
	@$(python) tools/figures.py

docs: $(DEV)/stamp ## Write the generated documentation anew
	$(DEV)/bin/python docs/generate.py

manifests: $(DEV)/stamp $(MANIFESTS)/stamp ## Look at Dockerfile, manifests and YAML with the tools of the trade
	$(MANIFESTS)/bin/hadolint Dockerfile
	$(MANIFESTS)/bin/python -m yamllint --strict .
	$(MANIFESTS)/bin/zizmor --offline --no-progress --quiet .
	$(DEV)/bin/python -m tests.support.scripts build/scripts
	$(MANIFESTS)/bin/shellcheck build/scripts/*.sh .ci/*
	@mkdir -p build/rendered
	for overlay in $(notdir $(wildcard k8s/overlays/*)); do \
		$(DEV)/bin/python -m tests.support.kustomize k8s/overlays/$$overlay > build/rendered/$$overlay.yaml || exit; \
	done
	$(DEV)/bin/python -m kubernetes_validate --strict --quiet -k 1.33 -k 1.35 -k 1.37 build/rendered/*.yaml
	LOG_LEVEL=ERROR $(MANIFESTS)/bin/python -m checkov.main --config-file .checkov.yaml --framework kubernetes -d build/rendered
	LOG_LEVEL=ERROR $(MANIFESTS)/bin/python -m checkov.main --config-file .checkov.yaml --framework dockerfile -f Dockerfile

image: $(DEV)/stamp ## Build the image with docker, podman or buildah
	$(DEV)/bin/python -m tests.support.image build

image-again: $(DEV)/stamp ## Build it again without a cache, and compare the layers
	$(DEV)/bin/python -m tests.support.image again

image-test: $(DEV)/stamp ## Run the image as the cluster would, against a real PostgreSQL
	$(DEV)/bin/python -m tests.support.image test

image-report: $(DEV)/stamp ## Show the largest parts of the image
	$(DEV)/bin/python -m tests.support.image report

# Each peer has the packages of its own requirements.txt, and nothing of ours.
peers := $(patsubst benchmarks/peers/%/requirements.in,%,$(wildcard benchmarks/peers/*/requirements.in))
peer_stamps := $(peers:%=build/bench/%/stamp)
$(peer_stamps): build/bench/%/stamp: benchmarks/peers/%/requirements.txt
benchmarks = $(DEV)/bin/python -m benchmarks

bench: $(DEV)/stamp .venv-run/stamp $(peer_stamps) ## Measure the service beside its peers, in about 16 minutes
	$(benchmarks) full

bench-quick: $(DEV)/stamp .venv-run/stamp $(peer_stamps) ## The same in about 3 minutes, roughly
	$(benchmarks) quick

bench-growth: $(DEV)/stamp .venv-run/stamp ## Measure with 3,000,000 users, and the memory over 200,000 requests
	$(benchmarks) growth

bench-import: $(DEV)/stamp .venv-run/stamp ## Bring 100,000 users in and out, and compare, also with a worker killed half-way
	$(benchmarks) import

bench-instructions: $(DEV)/stamp .venv-run/stamp ## Count the instructions of a request, and fail at 3 % more than recorded; record=1 records; needs valgrind
	$(benchmarks) instructions$(if $(record),-record)

bench-telemetry: $(DEV)/stamp .venv-run/stamp ## Count the same for parts of the service, and with all traces recorded; needs valgrind
	$(benchmarks) telemetry

bench-profile: $(DEV)/stamp .venv-run/stamp ## Show where the time goes, function by function; needs root
	$(benchmarks) profile

bench-micro: $(DEV)/stamp ## Measure parts of a request by themselves
	$(DEV)/bin/python -m pytest -p pytest_benchmark.plugin -p no:randomly -p no:xdist benchmarks/micro

bench-record: $(DEV)/stamp ## Make the latest runs those that docs/performance.md shows
	$(benchmarks) record

requirements: ## Lock requirements*.in; upgrade=1 takes the newest releases
	$(call lock,requirements)
	$(call lock,requirements-dev)
	$(call lock,requirements-manifests)
	$(foreach peer,$(peers),$(call lock,benchmarks/peers/$(peer)/requirements)$(newline))

define newline


endef

lock = $(or $(uv),$(error make requirements needs uv, see https://docs.astral.sh/uv/)) pip compile --quiet \
	--universal --python-version 3.11 --generate-hashes --custom-compile-command "make requirements" \
	$(if $(upgrade),--upgrade) $(1).in --output-file $(1).txt

# The stamp is written last, so an interrupted installation is begun again.
$(DEV)/stamp: requirements-dev.txt
.venv-run/stamp: requirements.txt
$(MANIFESTS)/stamp: requirements-manifests.txt
%/stamp:
	@echo "Installing $< into $(@D)$(if $(uv),, with pip): once, and for a minute or more"
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
installed = $(or $(shell $(PYTHON) --version 2>/dev/null),missing)
python = $(or $(found),$(error Python 3.11 or newer is needed, and $(PYTHON) is $(installed)))

can_install = $(shell $(python) -c 'import ensurepip, venv' 2>/dev/null && echo yes)
python_with_venv = $(if $(can_install),$(python),$(error $(python) has no venv module: install python3-venv or uv))
