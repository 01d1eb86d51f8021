# `make demo` and `make test` do all set-up themselves, system packages included (Debian 12 and 13, Ubuntu 24.04).

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
# Machines are network namespaces, which only root may make.
ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E)

# Tests that do not mind how long they take, and measure no times.
PATIENT := tests/kernel tests/property tests/unit

# Other tests wait for other programs much of the time.
WORKERS := $(shell echo $$(($$(nproc) * 3 / 2)))

.DEFAULT_GOAL := help
.PHONY: help system setup demo demo-shell demo-down lab lab-healing lab-speed lab-soak lab-tests test check bench lock clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

system:
	@PYTHON=$(PYTHON) deploy/setup/system.sh

PINS := pyproject.toml constraints.txt hatch_build.py services/gateway/pages/package-lock.json

$(VENV)/ready: $(PINS) | system
	@echo "set-up: Python packages into $(VENV)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[control,agent,upnp,dev]'
	@touch $@

setup: system $(VENV)/ready ## Install what the other targets need (they do so themselves)

demo: setup ## From nothing to a mesh of machines, shown and taken down (DEMO_KEEP=1 leaves it up)
	@$(ROOT) $(BIN)/python -m deploy.lab.demo

demo-shell: setup ## A shell in a demo that was left up; ON=berlin names the machine
	@$(ROOT) $(BIN)/python -m deploy.lab.demo --shell $(or $(ON),control)

demo-down: setup ## Take down what DEMO_KEEP=1 left up
	@$(ROOT) $(BIN)/python -m deploy.lab.demo --down

test: setup ## Run every test; with ARGS="tests/unit -k cidr" only some
	@deploy/setup/kernel.sh build/kernel
ifdef ARGS
	@$(ROOT) $(BIN)/python -m pytest $(ARGS)
else
	@$(ROOT) $(BIN)/python -m pytest -m "not timed" -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		$(addprefix --ignore ,$(PATIENT))
	@$(ROOT) tests/timed.sh $(BIN)/python $(PATIENT)
endif

lab: setup ## Every pair of machines across NATs and firewalls, as a matrix beside theory
	@$(ROOT) $(BIN)/python -m deploy.lab.matrix

lab-healing: setup ## How long cuts of paths and transits are felt; ARGS="--cuts 5" for fewer
	@$(ROOT) $(BIN)/python -m deploy.lab.healing $(ARGS)

lab-speed: setup ## Throughput direct and through a transit, beside WireGuard set up by hand
	@$(ROOT) $(BIN)/python -m deploy.lab.throughput $(ARGS)

lab-soak: setup ## Machines join, leave, move and fail at random for ten minutes; ARGS="--minutes 1 --seed 7"
	@$(ROOT) $(BIN)/python -m deploy.lab.soak $(ARGS)

lab-tests: setup ## Run only the tests on machines in network namespaces
	@$(ROOT) $(BIN)/python -m pytest -m lab $(ARGS)

check: setup ## Lint, formatting, types and import arrows
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy -p agent -p events -p services -p deploy.lab
	@$(BIN)/lint-imports

bench: setup ## Measure against floors of the same run; writes build/bench.json (ARGS=join for one)
	@mkdir -p build
	@$(ROOT) $(BIN)/python -m benchmarks $(ARGS) 2>build/bench.log || { tail -n 30 build/bench.log; exit 1; }

lock: setup ## Renew constraints.txt from pyproject.toml
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade --quiet \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file constraints.txt

clean: ## Remove everything that was made here
	@$(ROOT) rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@$(ROOT) find . -name __pycache__ -type d -prune -exec rm -rf {} +
