# Everything a person types first. Each target sets up what it needs, once: see deploy/setup-dev.sh.

.DEFAULT_GOAL := help
.PHONY: help install demo test check audit bench soak clean mosquitto
.NOTPARALLEL: # two set-ups at once would wait for, or fail on, apt's lock

VENV := .venv
PYTHON := $(VENV)/bin/python
SETUP := sh deploy/setup-dev.sh

# Debian keeps mosquitto in /usr/sbin, which a user's PATH may lack.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

help:
	@echo "make install put streamrnn into $(VENV), and mosquitto on the computer when there is no broker"
	@echo "make demo    watch a pipeline learn this computer's own telemetry (seconds=30 to stop by itself)"
	@echo "make test    run the tests"
	@echo "make check   run everything a change must pass: ruff, mypy, the tests, kernels with checked indices"
	@echo "make bench   measure how fast it is beside its peers (quick=1 for a smoke test); build/bench.json has the numbers"
	@echo "make audit   ask a public database for known vulnerabilities of what is installed (a part of check)"
	@echo "make soak    kills, outages and rubbish against the real daemon, at length (ARGS='--scale 0.05')"
	@echo "make clean   remove caches and build products; delete $(VENV) to set up anew"
	@echo
	@echo "demo, test and soak take ARGS, for example: make test ARGS='-k gru -x'"

install: $(VENV)/.ready mosquitto
	@echo "installed: $(VENV)/bin/streamrnn --help"

demo: $(VENV)/.ready
	$(PYTHON) -m streamrnn demo $(if $(seconds),--seconds $(seconds)) $(ARGS)

test: $(VENV)/.ready-dev mosquitto
	$(PYTHON) -m pytest $(ARGS)

check: $(VENV)/.ready-dev mosquitto
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	VENV=$(VENV) sh deploy/audit.sh
	# Kernels do not check their indices. Here they do; and beside it those are compiled that the tests below use.
	sh tests/bounds.sh $(PYTHON)
	$(PYTHON) -m pytest -n 2 --dist worksteal

# BLAS and its like would take all cores where ours takes one.
bench: $(VENV)/.ready-bench mosquitto
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 \
		$(PYTHON) benchmarks/bench.py --json build/bench.json $(if $(quick),--quick) $(ARGS)

soak: $(VENV)/.ready-dev mosquitto
	$(PYTHON) benchmarks/soak.py $(ARGS)

audit: $(VENV)/.ready-dev
	VENV=$(VENV) sh deploy/audit.sh

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path './$(VENV)' -prune -o -type d -name __pycache__ -exec rm -rf {} +

$(VENV)/.ready: pyproject.toml deploy/setup-dev.sh
	$(SETUP) venv

$(VENV)/.ready-dev: pyproject.toml deploy/setup-dev.sh
	$(SETUP) venv dev

$(VENV)/.ready-bench: pyproject.toml deploy/setup-dev.sh
	$(SETUP) venv bench

mosquitto:
	@$(SETUP) mosquitto
