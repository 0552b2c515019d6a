# Set-up, run and test with nothing but Python >= 3.10 (with its venv module) and make.
#
#   make run           install what running needs, then measure suites/edge.yaml
#   make check         style, types, and the tests of what you changed: before a commit
#   make test          the tests without the slow ones
#   make test-all      all tests, as CI runs them
#   make lint          style and types
#   make test-oldest   all tests with the oldest versions that pyproject.toml allows
#   make zoo           a sample of timm's and torchvision's networks, both installed apart from the rest
#   make test-arm64    a fleet's board on emulated Arm: as root, with debootstrap and qemu-user-static
#   make fuzz          fuzz the parsers                           (FUZZ="suite -runs=1000000")
#   make wheel         build dist/cspbench-*.whl
#   make clean         delete the environments and caches, never results
#
#   ARGS="--rounds 3"   more options of cspbench run or of pytest (ARGS="-k gamma")
#   SUITE=suites/x.yaml another suite for make run
#   EXTRAS=all          what is installed for running beside the backends (pyproject.toml lists the extras)
#   BASE=main           what make check compares with
#   PYTHON=python3.12   another interpreter than python3
#   SYSTEM_TORCH=1      keep the system's torch and jetson-stats (Jetson boards: docs/jetson.md)

PYTHON ?= python3
SUITE  ?= suites/edge.yaml
ARGS   ?=
EXTRAS ?= onnx,openvino
BASE   ?= main
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
ZOO        := .zoo

# One environment, since it is torch that takes the minutes and the disk, with a stamp for each purpose:
# who only runs does not install what tests and lint need. The tests start jetson-stats' real service
# (AGPL-3.0); a board has its own, which only its own client can talk to.
FOR_RUN    := $(VENV)/.for-run-$(EXTRAS)
FOR_TEST   := $(VENV)/.for-test
FOR_LINT   := $(VENV)/.for-lint
INSTALL     = $(VENV)/bin/python -m pip install --no-compile -c $(VENV)/constraints.txt
# pip compiles on one processor. A file that is for another Python stays uncompiled.
COMPILE     = $(VENV)/bin/python -W ignore -m compileall -qq -j 0 $(VENV)/lib/python*/site-packages || true
PYTEST     := $(VENV)/bin/python -m pytest $(PARALLEL)

.DEFAULT_GOAL := help
.PHONY: help setup run check test test-all lint test-oldest zoo test-arm64 fuzz wheel clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

setup: $(FOR_RUN)

run: $(FOR_RUN)
	$(VENV)/bin/cspbench run $(SUITE) $(ARGS)

check: lint $(FOR_TEST)
	$(VENV)/bin/python -m tests.touched $(BASE) $(PARALLEL) -m "not slow" $(ARGS)

test: $(FOR_TEST)
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(FOR_TEST)
	$(PYTEST) $(ARGS)

lint: $(FOR_LINT)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest $(PARALLEL) $(ARGS)

zoo: $(FOR_TEST) $(ZOO)/.installed
	CSPBENCH_TEST_REQUIRE=timm PYTHONPATH=$(ZOO) $(VENV)/bin/python -m pytest -n 0 -m timm tests/analysis $(ARGS)

test-arm64: $(FOR_TEST)
	CSPBENCH_TEST_REQUIRE=arm64 CSPBENCH_ARM64=$(abspath .arm64) \
	  $(VENV)/bin/python -m pytest -n 0 -m arm64 tests/fleet/test_arm64.py $(ARGS)

fuzz: $(FOR_RUN)
	$(INSTALL) -e ".[fuzz]"
	$(VENV)/bin/python -m tests.fuzz $(FUZZ)

wheel: $(FOR_RUN)
	$(VENV)/bin/python -m pip wheel --no-deps --wheel-dir dist .

clean:
	rm -rf .venv .venv-oldest .venv-system-torch .zoo build dist *.egg-info
	test ! -d .arm64 || rm -rf --one-file-system .arm64
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
$(FOR_RUN): pyproject.toml constraints.txt
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	$(KEEP_PINS) constraints.txt > $(VENV)/constraints.txt
	$(INSTALL) -e ".[$(EXTRAS)]"
	$(COMPILE)
	@touch $@

# Of dask-kubernetes only the operator's files are read, not what it requires.
$(FOR_TEST): $(FOR_RUN)
	$(INSTALL) -e ".[all,$(JETSON)test]"
	$(INSTALL) --no-deps dask-kubernetes
	$(COMPILE)
	@touch $@

$(FOR_LINT): $(FOR_RUN)
	$(INSTALL) -e ".[lint]"
	$(COMPILE)
	@touch $@

# Without what they require: torchvision's packages are for one torch each.
$(ZOO)/.installed: benchmarks/zoo.txt
	$(VENV)/bin/python -m pip install --no-deps --upgrade --target $(ZOO) -r benchmarks/zoo.txt
	@touch $@

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install -c constraints-oldest.txt -e ".[all,jetson,test]"
	@touch $@
