# Every target makes .venv and installs into it what it needs, once; when that
# is done, nothing is fetched any more.
#   make study PYTHON=python3.12     another interpreter
#   make study BACKEND=gpu           another extra: tensorflow, gpu, jax, torch

SHELL := /bin/bash
BIN := .venv/bin
# The smaller CPU build of TensorFlow exists for Linux on x86-64 only.
BACKEND ?= $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),tensorflow-cpu,tensorflow)
KERAS = $(patsubst gpu,tensorflow,$(patsubst tensorflow-cpu,tensorflow,$(BACKEND)))
PROJECT := setup.cfg pyproject.toml $(wildcard requirements/*.txt)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Tests spend their time in Python: two processes for the two cores of CI.
JOBS ?= 2
TEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal
# What a backend may change; see the markers in setup.cfg.
DIFFER := "not slow and (not one_backend or every_backend)"
# On JAX they compile thousands of programs that run once. The older way to emit
# fused loops takes two thirds of the time; a JAX that does not know it stops.
SOON := --xla_cpu_use_fusion_emitters=false

.PHONY: help study test test-slow test-backends lint docs bench clean

help:
	@echo "make study          search batch size, learning rate, dropout on digits"
	@echo "make test           the suite on TensorFlow"
	@echo "make test-slow      the rest of it: examples, kill -9, several processes"
	@echo "make test-backends  the same on JAX and torch"
	@echo "make lint           ruff and mypy"
	@echo "make docs           build the documentation into site/"
	@echo "make bench          measure speed beside the alternatives"
	@echo "make clean          remove .venv and everything that was built"

study: .venv/.study-$(BACKEND)
	KERAS_BACKEND=$(KERAS) $(BIN)/kerascomp study digits --epochs 15

test: .venv/.test-$(BACKEND)
	KERAS_BACKEND=$(KERAS) $(TEST) -m "not slow and not extended"

test-slow: .venv/.test-$(BACKEND)
	KERAS_BACKEND=$(KERAS) $(TEST) -m "slow or extended"

test-backends: .venv/.backends
	flags=$(SOON); XLA_FLAGS=$$flags $(BIN)/python -c \
		'import jax; jax.numpy.zeros(1)' 2> /dev/null || flags=; \
		XLA_FLAGS=$$flags KERAS_BACKEND=jax $(TEST) -m $(DIFFER)
	KERAS_BACKEND=torch $(TEST) -m $(DIFFER)

lint: .venv/.lint .venv/.study-$(BACKEND)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.docs .venv/.study-$(BACKEND)
	$(BIN)/zensical build --strict --clean

bench: .venv/.backends .venv/.bench .venv/.study-$(BACKEND)
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf .venv build site *.egg-info .pytest_cache .ruff_cache .mypy_cache

.venv/.study-%: .venv/.made $(PROJECT)
	@echo "Installing kerascomp with $* into .venv (once)."
	$(INSTALL) -e ".[studies,$*]"
	@touch $@

.venv/.test-%: .venv/.study-% $(PROJECT)
	$(INSTALL) -e ".[test]"
	@touch $@

.venv/.backends: .venv/.made $(PROJECT)
	@echo "Installing JAX and torch into .venv (once)."
	$(INSTALL) -r requirements/backends.txt
	$(INSTALL) -e ".[test]"
	@touch $@

.venv/.lint .venv/.docs .venv/.bench: .venv/.%: .venv/.made $(PROJECT)
	$(INSTALL) -e ".[$*]"
	@touch $@

# The first interpreter that is new enough, or the one that was asked for.
.venv/.made:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
			2> /dev/null || continue; \
		$$python -c 'import ensurepip, venv' 2> /dev/null || { \
			echo "$$python has no venv module, which makes .venv." \
				"On Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }; \
		echo "Making .venv with $$($$python --version)."; \
		rm -rf .venv && $$python -m venv .venv && touch $@ && exit 0; \
		exit 1; \
	done; \
	echo "kerascomp needs Python 3.11 or later, and found none:" \
		"$(or $(PYTHON),python3) is $$($(or $(PYTHON),python3) --version 2>&1 | head -n 1)." \
		"Install one, or name it: make PYTHON=/path/to/python3.12" >&2; \
	exit 1
