# What there is to do here. `make` alone lists it. Only `deps` touches the machine outside this directory.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2
WORKERS ?= 4
SEED ?=
SEEDS ?= $(if $(SEED),1,1000)
TRIALS ?= 20
STATES ?= 200000
ARGS ?=

# The tests in the order in which a failure says most: first what computes, on JOBS cores, module by module; then what
# mostly waits for timers of real agents, WORKERS at a time, which may be more than there are cores; at last, one after
# the other, what is marked `alone` (tests/conftest.py). Directories not named here wait.
COMPUTING := $(wildcard tests/unit tests/scripts tests/wire tests/sim tests/judge tests/explore)
WAITING := $(filter-out $(COMPUTING) tests/bench tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))

PROTOS := $(wildcard proto/haagent/v1/*.proto)
PROTOC := $(BIN)/python -m grpc_tools.protoc -Iproto

# pyright runs the version that pyproject.toml pins, on the node that its wheel brings, and asks nobody for news.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PYRIGHT_PYTHON_GLOBAL_NODE := 0
unexport PYRIGHT_PYTHON_FORCE_VERSION PYRIGHT_PYTHON_PYLANCE_VERSION
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: root deps venv  ## three nodes and etcd in network namespaces: cold start, loss, cuts, heal (root)
	$(BIN)/python -m haagent.lab.demo $(ARGS)

.PHONY: test
test: root deps venv  ## every test; ARGS='-k name' to choose, WORKERS=4 at a time (root)
	@found= failed=; \
	run() { \
	    printf '\n-- pytest %s\n' "$$*"; \
	    local status=0; \
	    $(BIN)/python -m pytest "$$@" --durations=8 --durations-min=5 $(ARGS) || status=$$?; \
	    case $$status in \
	        0) found=yes ;; \
	        1) found=yes failed=yes ;; \
	        5) : nothing is chosen here ;; \
	        *) exit $$status ;; \
	    esac; \
	}; \
	run $(COMPUTING) -m 'not alone' -n $(JOBS) --dist loadscope; \
	run $(WAITING) -m 'not alone' -n $(WORKERS) --dist worksteal; \
	run $(COMPUTING) $(WAITING) -m alone; \
	[ "$$found" ] || { echo "no test has been chosen" >&2; exit 5; }; \
	[ -z "$$failed" ] || { echo "tests failed: see above" >&2; exit 1; }

.PHONY: check
check: venv proto-current  ## format, lint, types, import floors, generated code up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

.PHONY: proto
proto: venv  ## haagent/v1 from proto/haagent/v1
	$(PROTOC) --python_out=. --pyi_out=. $(PROTOS)

# What is generated is kept beside its source, so that an installation needs no compiler: here it is made anew and compared.
.PHONY: proto-current
proto-current: venv
	@made=$$(mktemp -d); trap 'rm -rf "$$made"' EXIT; \
	$(PROTOC) --python_out="$$made" --pyi_out="$$made" $(PROTOS); \
	diff -r -x '__pycache__' -x '__init__.py' "$$made/haagent/v1" haagent/v1 \
	    || { echo "haagent/v1 is not what proto/ says: run 'make proto'" >&2; exit 1; }

.PHONY: sim
sim: venv  ## whole clusters in virtual time: SEEDS=1000, or SEED=… to replay one
	PYTHONPATH=. $(BIN)/python tests/sim/run.py --seeds $(SEEDS) --jobs $(JOBS) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: explore
explore: venv  ## small worlds of the core, every order of events: STATES=200000 each, ARGS='--mutants'
	PYTHONPATH=. $(BIN)/python tests/explore/run.py --states $(STATES) --jobs $(JOBS) $(ARGS)

.PHONY: judge
judge: venv  ## the second judge, alone, over the simulator's worlds and mutants: SEEDS=1000, ARGS='--mutants'
	PYTHONPATH=. $(BIN)/python tests/judge/run.py --seeds $(SEEDS) --jobs $(JOBS) $(ARGS)

.PHONY: bench
bench: root deps venv  ## gaps and overlaps that a client sees, measured in the lab (root)
	PYTHONPATH=. $(BIN)/python tests/bench/run.py $(ARGS)

.PHONY: chaos
chaos: root deps venv  ## random faults on real agents: TRIALS=20, SEED=… (root)
	$(BIN)/python -m haagent.lab.chaos --trials $(TRIALS) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: owners
owners: root deps venv  ## what made two owners once, again and again: ARGS='--trials 100 --ttl 300ms' (root)
	PYTHONPATH=. $(BIN)/python tests/bench/two_owners.py $(ARGS)

.PHONY: acceptance
acceptance: check test sim judge explore bench owners demo  ## all of the above, one after the other (root)

.PHONY: deps
deps:  ## the Debian packages that lab and tests need, if missing (root)
	@.ci/deps

.PHONY: venv
venv: .venv/.installed  ## .venv with haagent, its libraries and its tools

.venv/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "haagent needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo "$(PYTHON) cannot make virtual environments: run 'make deps' (python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: lock
lock: venv  ## renew requirements.lock: the newest libraries and tools that pyproject.toml allows
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --upgrade --extra test --extra dev \
	    --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml

.PHONY: root
root:
	@[ "$$(id -u)" = 0 ] || { echo "this makes network namespaces and needs root: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

.PHONY: clean
clean:  ## remove what building and testing made, .venv too
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
