# Each target says what it does by the words behind its name; `make` alone prints them.
PYTHON ?= python3
PYTEST_OPTIONS ?=
# Tests of fleets of workers: each waits for leases, graces and restarts.
FLEET := $(addprefix tests/workers/test_,both_engines.py discovery.py killed.py trouble.py)

BIN := .venv/bin
DEMO_READY := .venv/.ready
TESTS_READY := .venv/.ready-test
LIBVIRT_READY := .venv/.ready-libvirt

export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet --no-input

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(TESTS_READY) ## make .venv with cellkeeper and what develops it (PYTHON=python3.12 chooses the Python)

.PHONY: demo
demo: $(DEMO_READY) ## show cellkeeper at work on a made-up cloud; needs no database server
	@$(BIN)/python -m demo

.PHONY: test
test: $(LIBVIRT_READY) services ## run all tests, on MariaDB servers of their own (PYTEST_OPTIONS="-k archive")
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile $(FLEET:%=--ignore=%) --ignore=tests/libvirtd $(PYTEST_OPTIONS)

.PHONY: test-workers
test-workers: $(LIBVIRT_READY) services ## run the tests that start, stop and kill whole workers (minutes)
	@$(BIN)/python -m pytest $(FLEET) $(PYTEST_OPTIONS)

.PHONY: test-libvirt
test-libvirt: $(LIBVIRT_READY) services ## run the tests that ask a real libvirtd with QEMU
	@tools/install-services.sh hypervisor
	@$(BIN)/python -m pytest tests/libvirtd $(PYTEST_OPTIONS)

.PHONY: test-fast
test-fast: $(TESTS_READY) ## run the tests that need no server
	@$(BIN)/python -m pytest tests/unit $(PYTEST_OPTIONS)

.PHONY: lint
lint: $(TESTS_READY) ## check style, format and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

.PHONY: check
check: lint test ## lint and test

.PHONY: bench
bench: $(TESTS_READY) services ## measure what the README says about speed
	@$(BIN)/python -m benchmarks

.PHONY: services
services: | $(TESTS_READY) ## install the server programs that the tests need, where they are missing
	@tools/install-services.sh

.PHONY: clean
clean: ## remove .venv and all that was made from the sources
	@rm -rf .venv build demo-cloud *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +

# The last thing that venv makes; a Python without ensurepip leaves half of a folder.
$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "There is no $(PYTHON): install Python 3.11 or later, or name one: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "$$($(PYTHON) --version) is too old: name one from 3.11 on, as in make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c "import venv, ensurepip" 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments: install the package python3-venv" >&2; exit 1; }
	@echo "Making .venv"
	@$(PYTHON) -m venv .venv

$(DEMO_READY): pyproject.toml | $(BIN)/pip
	@echo "Installing cellkeeper into .venv"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(TESTS_READY): pyproject.toml | $(BIN)/pip
	@echo "Installing cellkeeper and what develops it into .venv"
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $(DEMO_READY) $@

$(LIBVIRT_READY): pyproject.toml | $(TESTS_READY) services
	@echo "Installing the extra libvirt into .venv"
	@$(PIP_INSTALL) --editable '.[libvirt]' || { echo "The extra libvirt could not be installed. Compiling it takes \
	gcc, pkg-config and the headers of libvirt and Python: on Debian the packages \
	gcc libc6-dev pkg-config libvirt-dev python3-dev." >&2; exit 1; }
	@touch $@
