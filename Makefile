# Set-up, run and test with nothing but Python >= 3.10 (with its venv module) and make.
#
#   make run           set up, then measure suites/edge.yaml      (ARGS="--rounds 3" adds options)
#   make test          set up, then run the tests                 (ARGS="-k gamma" adds options)
#   make lint          style and types
#   make test-oldest   the tests with the oldest versions that pyproject.toml allows
#   make fuzz          fuzz the parsers                           (FUZZ="suite -runs=1000000")
#   make clean         delete the environments and caches, never results
#
#   PYTHON=python3.12   another interpreter than python3
#   SYSTEM_TORCH=1      keep the system's torch and jetson-stats (Jetson boards: docs/jetson.md)

PYTHON ?= python3
SUITE  ?= suites/edge.yaml
ARGS   ?=
# A file stays on one worker: its fixtures export models.
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile
FUZZ   ?= suite -runs=100000

ifdef SYSTEM_TORCH
VENV       := .venv-system-torch
VENV_FLAGS := --system-site-packages
KEEP_PINS  := grep -v '^torch=='
JETSON     :=
else
VENV       := .venv
VENV_FLAGS :=
KEEP_PINS  := cat
JETSON     := jetson,
endif
OLDEST     := .venv-oldest

# One environment for running, testing and linting: it is torch that takes the minutes and the disk.
# The tests start jetson-stats' real service; a board has its own, which only its own client can talk to.
EXTRAS     := all,$(JETSON)test,lint

.DEFAULT_GOAL := help
.PHONY: help setup run test lint test-oldest fuzz clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/.installed

run: setup
	$(VENV)/bin/cspbench run $(SUITE) $(ARGS)

test: setup
	$(VENV)/bin/python -m pytest $(PARALLEL) $(ARGS)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest $(PARALLEL) $(ARGS)

fuzz: setup
	$(VENV)/bin/python -m pip install -c $(VENV)/constraints.txt -e ".[fuzz]"
	$(VENV)/bin/python -m tests.fuzz $(FUZZ)

clean:
	rm -rf .venv .venv-oldest .venv-system-torch build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find cspbench tests -type d -name __pycache__ -prune -exec rm -rf {} +

define CHECK_PYTHON
@command -v $(PYTHON) >/dev/null || { \
  echo "cspbench needs Python 3.10 or newer, and '$(PYTHON)' was not found: install it, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
  echo "cspbench needs Python 3.10 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1): name a newer one: make PYTHON=python3.11" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
  echo "cspbench needs Python's venv module, which '$(PYTHON)' lacks: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
endef

# The stamps make a second `make run` cost nothing; a changed requirement or pin installs again.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	$(KEEP_PINS) constraints.txt > $(VENV)/constraints.txt
	$(VENV)/bin/python -m pip install -c $(VENV)/constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install -c constraints-oldest.txt -e ".[all,jetson,test]"
	@touch $@
