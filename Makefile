# Each target says what it does by the words behind its name; `make` alone prints them.
PYTHON ?= python3
PYTEST_OPTIONS ?=
# Tests of fleets of workers: each waits for leases, graces and restarts.
FLEET := $(addprefix tests/workers/test_,beat.py both_engines.py discovery.py hanging_children.py heal_allocations.py \
	hostile_messages.py hostile_records.py killed.py lost_lines.py online_data_migrations.py ordering.py refusing_redis.py rights.py \
	sentinel.py server_connections.py sync_aggregates.py throttle.py trouble.py)
# Tests of a whole deployment, of all that the documents print, and those that look at Flower in a browser.
DEPLOYMENT := tests/deploy/test_compose_runs.py
DOCUMENTS := tests/docs/test_commands.py
BROWSER := tests/browser
# Tests that run each command many times, with the connection cut at another statement each time.
CONNECTIONS := tests/connections
# Tests of a RabbitMQ alone; those of workers run with one, too.
RABBITMQ := tests/workers/test_refusing_rabbitmq.py
# Tests of what the databases do, which pass on MySQL as on MariaDB.
ON_MYSQL := $(addprefix tests/integration/test_,archive_concurrency.py archive_crashes.py archive_properties.py \
	discover_hosts.py map_instances.py online_data_migrations.py real_cloud.py schemas.py unchecked_rows.py) \
	$(addprefix tests/acceptance/test_,archive.py purge.py)
# What has a target of its own.
APART := $(FLEET) $(DEPLOYMENT) $(DOCUMENTS) $(BROWSER) $(CONNECTIONS) $(RABBITMQ) tests/chaos tests/fuzz tests/galera tests/libvirtd tests/peers

# How much of cli/ the tests must reach that need no server: all of them, not those that PYTEST_OPTIONS choose.
COVERAGE := --cov=cli --cov-report= --cov-fail-under=80

BIN := .venv/bin
DEMO_READY := .venv/.ready
TESTS_READY := .venv/.ready-test
LIBVIRT_READY := .venv/.ready-libvirt
PEERS := .tools/peers
PEERS_READY := $(PEERS)/.ready

export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet --no-input

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(TESTS_READY) ## make .venv with cellkeeper and what develops it (PYTHON=python3.12 chooses the Python)

.PHONY: demo
demo: $(DEMO_READY) ## show cellkeeper at work on a made-up cloud; needs no database server
	@$(BIN)/python -m demo

.PHONY: test
test: $(LIBVIRT_READY) services ## run all tests, on MariaDB servers of their own (PYTEST_OPTIONS="-k archive")
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile $(APART:%=--ignore=%) $(PYTEST_OPTIONS)

.PHONY: test-workers
test-workers: $(LIBVIRT_READY) services ## run the tests that start, stop and kill whole workers (minutes)
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile $(FLEET) $(PYTEST_OPTIONS)

.PHONY: test-galera
test-galera: $(TESTS_READY) services ## run the tests on a cluster of three nodes whose nodes are killed and cut off (minutes)
	@tools/install-services.sh galera
	@$(BIN)/python -m pytest tests/galera $(PYTEST_OPTIONS)

.PHONY: test-connections
test-connections: $(LIBVIRT_READY) services ## run every command with its connection cut, at some statements each (CELLKEEPER_CUTS=all)
	@$(BIN)/python -m pytest --numprocesses=2 $(CONNECTIONS) $(PYTEST_OPTIONS)

.PHONY: test-fuzz
test-fuzz: $(TESTS_READY) services ## run random command lines on random configurations (CELLKEEPER_FUZZ_SEED, CELLKEEPER_FUZZ_CASES)
	@$(BIN)/python -m pytest --numprocesses=2 tests/fuzz $(PYTEST_OPTIONS)

.PHONY: test-chaos
test-chaos: $(TESTS_READY) services ## kill processes and servers, 300 times, and count the rows (CELLKEEPER_CHAOS_SEED, CELLKEEPER_CHAOS_KILLS)
	@tools/install-services.sh rabbitmq
	@$(BIN)/python -m pytest --numprocesses=2 tests/chaos $(PYTEST_OPTIONS)

.PHONY: test-rabbitmq
test-rabbitmq: $(LIBVIRT_READY) services ## run a selection of the tests of workers with a RabbitMQ that carries the messages (minutes)
	@tools/install-services.sh rabbitmq
	@tools/with-rabbitmq.sh $(BIN)/python -m pytest tests/workers/test_both_engines.py tests/workers/test_killed.py \
		$(RABBITMQ) -k "both_engines or refusing or children or workers_that_end" $(PYTEST_OPTIONS)

.PHONY: test-libvirt
test-libvirt: $(LIBVIRT_READY) services ## run the tests that ask a real libvirtd with QEMU
	@tools/install-services.sh hypervisor
	@$(BIN)/python -m pytest tests/libvirtd $(PYTEST_OPTIONS)

.PHONY: test-peers
test-peers: services $(PEERS_READY) ## run the tests with real Keystone and Neutron, installed into .tools/peers (minutes)
	@$(BIN)/python -m pytest tests/peers $(PYTEST_OPTIONS)

.PHONY: test-mysql
test-mysql: $(TESTS_READY) services ## run the tests of the databases on a MySQL server, unpacked into .tools/mysql (minutes)
	@tools/install-mysql.sh
	@$(BIN)/python -m pytest --server=mysql $(ON_MYSQL) $(PYTEST_OPTIONS)

.PHONY: test-deploy
test-deploy: $(TESTS_READY) services ## run every command of docker-compose.yml, without containers (minutes)
	@$(BIN)/python -m pytest $(DEPLOYMENT) $(PYTEST_OPTIONS)

.PHONY: test-docs
test-docs: $(TESTS_READY) services ## run every command that README.md and docs/ print (minutes)
	@$(BIN)/python -m pytest $(DOCUMENTS) $(PYTEST_OPTIONS)

.PHONY: test-flower
test-flower: $(TESTS_READY) ## look at Flower in a browser, with a run in progress and after (FLOWER_PICTURE=docs/flower.png)
	@tools/install-services.sh browser
	@$(BIN)/python -m pytest $(BROWSER) $(PYTEST_OPTIONS)

.PHONY: test-fast
test-fast: $(TESTS_READY) ## run the tests that need no server, which reach at least 80 % of the statements of cli/
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile tests/unit $(or $(PYTEST_OPTIONS),$(COVERAGE))

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

.PHONY: config
config: $(TESTS_READY) ## write the example configuration files anew from the code
	@for name in nova cellkeeper; do $(BIN)/oslo-config-generator --config-file deploy/config/$$name.gen; done

.PHONY: services
services: | $(TESTS_READY) ## install the server programs that the tests need, where they are missing
	@tools/install-services.sh

.PHONY: clean
clean: ## remove .venv and all that was made from the sources
	@rm -rf .venv build demo-cloud *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
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

# Keystone and Neutron as of 2025.2 and later; their own environment, for they need other versions than cellkeeper does.
$(PEERS_READY): Makefile
	@echo "Installing Keystone and Neutron into $(PEERS)"
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --quiet --no-input "keystone>=28" "neutron>=27" PyMySQL waitress
	@touch $@
