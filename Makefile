# Everything a developer does with this repository. `make help` lists it.
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory

# The Python that makes the environment; empty: the first one on the path that is new enough.
PYTHON ?=
BIN := .venv/bin
# What `make up` starts: all, core (no web front ends), or names with commas.
SERVICES ?= all
# Tests run on this many workers; the end-to-end ones share one of them.
WORKERS ?= 2
# How long the storm of `make chaos` lasts.
MINUTES ?= 10
SOURCES := kit/src gateway/src svc-auth/src svc-tenants/src svc-messaging/src svc-webhooks/src meta-emulator/src \
	operator/src tools/devstack/src tools/devkube/src bench/src

.PHONY: help setup up down reset logs ps test chaos bench lint fmt docs images lock protos

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Environment, pinned dependencies, protos; in a moment when nothing changed
	@PYTHON="$(PYTHON)" tools/setup.sh

up: setup ## Start everything, seed a demo workspace, print what to try (SERVICES=core: no web front ends)
	@$(BIN)/python -m devstack up --services $(SERVICES)

down: setup ## Stop what another terminal started
	@$(BIN)/python -m devstack down

reset: setup ## Delete data, secrets and logs of the stopped stack
	@$(BIN)/python -m devstack reset

logs: setup ## Follow all logs (make logs NAME=gateway: one)
	@$(BIN)/python -m devstack logs --follow $(NAME)

ps: setup ## What runs, on which ports, with how much memory
	@$(BIN)/python -m devstack ps

test: setup ## All tests, on real engines (beside a running `make up` too)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope -q

chaos: setup ## Random kills under load for MINUTES=10, and every fault with outages of 30 s; prints what it found
	@AEROSTIC_CHAOS_MINUTES=$(MINUTES) AEROSTIC_CHAOS_OUTAGE_SECONDS=30 $(BIN)/python -m pytest tests/chaos -s -v

bench: setup ## Measure every claim beside a physical limit (QUICK=1: under 10 minutes; CLAIMS="intake api": some; CLAIMS=soak: an hour)
	@$(BIN)/python -m bench $(CLAIMS) $(if $(QUICK),--quick)

lint: setup ## Style, types, import directions, protos
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy $(SOURCES)
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/buf lint proto/gen/aerostic.binpb --path aerostic --config proto/buf.yaml
	@$(BIN)/buf format proto --path proto/aerostic --diff --exit-code

fmt: setup ## Put code and protos in shape
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format --quiet
	@$(BIN)/buf format proto --path proto/aerostic --write

docs: setup ## Write docs/settings.md and the chart's schema anew after a setting changed
	@$(BIN)/python tools/settings_doc.py
	@$(BIN)/python tools/chart_schema.py

images: setup ## Build the image of every deployable (BASE=, TAG=, REPOSITORY=, ENGINE=docker or podman)
	@BASE="$(BASE)" TAG="$(TAG)" REPOSITORY="$(REPOSITORY)" ENGINE="$(ENGINE)" $(BIN)/python tools/images.py

lock: setup ## Lock the dependencies anew after a pyproject.toml changed
	@$(BIN)/python tools/lock.py

protos: setup ## Build the protos, changed or not
	@$(BIN)/python tools/gen_protos.py
