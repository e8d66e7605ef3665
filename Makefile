# `make demo` and `make test` need Python 3.11 or newer and nothing else; `make help` lists the rest.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

# Python 3.11 first: only there the suite sees Django 5.2. Another one: make PYTHON=python3.13 ...
CANDIDATES := python3.11 python3 python3.12 python3.13 python3.14
PYTHON ?= $(shell for python in $(CANDIDATES); do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.DEFAULT_GOAL := help
LANGUAGES := -l de -l es -l fr
.PHONY: help demo test lint format messages docs bench screenshots clean packages

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

demo: $(VENV)/.demo ## a census of Python's standard library, on SQLite; ends by itself
	@$(BIN)/python manage.py demo

test: $(VENV)/.test ## all tests, on every database and every Django; ARGS="..." goes to pytest
	@rm -rf .reports && mkdir .reports
	@$(BIN)/python -m tests.servers run -- $(BIN)/python -m nox $(if $(ARGS),-- $(ARGS)); \
		$(BIN)/python -m tests.report .reports $$?

lint: $(VENV)/.lint ## format, rules, types, migrations, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m django makemigrations --check --dry-run --settings=tests.settings
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html

format: $(VENV)/.lint ## put the code into the form `make lint` asks for
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

messages: $(VENV)/.lint ## the catalogues, from the texts of the code; then translate what is new, and once more
	@command -v xgettext >/dev/null || sh .ci/install-packages gettext
	cd django_taskq && ../$(BIN)/python -m django makemessages $(LANGUAGES) --no-obsolete --add-location file
	cd django_taskq && ../$(BIN)/python -m django compilemessages --verbosity 0 $(LANGUAGES)

docs: $(VENV)/.lint ## the documentation, in docs/_build/html
	$(BIN)/python -m sphinx --fail-on-warning --keep-going docs docs/_build/html

bench: $(VENV)/.test ## the benchmarks; ARGS="..." goes to them
	@$(BIN)/python -m tests.benchmarks $(ARGS)

screenshots: $(VENV)/.test ## the pictures of the admin in the documentation, from the demo project
	@$(BIN)/python -m tests.screenshots docs/images

clean: ## remove the environments and all that was built
	rm -rf $(VENV) .nox .servers .reports .mypy_cache .pytest_cache .ruff_cache build dist docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment with a pip that knows dependency groups.
$(VENV)/.pip:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found in PATH."; exit 1; }
	@# Debian keeps what makes environments in a package of its own.
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || sh .ci/install-packages \
		$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.pip
	$(PIP) --editable '.[rich]' --group example
	@touch $@

$(VENV)/.test: pyproject.toml | packages
	$(PIP) --editable '.[postgres,mysql,redis,cron,solar,rich,process]' --group test --group celery --group nox --group stores --group web --group beat --group browser --group themes
	$(BIN)/python -m tests.servers.emulators install
	@touch $@

$(VENV)/.lint: pyproject.toml | $(VENV)/.pip
	$(PIP) --editable '.[postgres,redis,cron,solar,rich,process]' --group test --group celery --group nox --group stores --group web \
		--group lint --group docs
	@touch $@

# The servers the tests start, and what mysqlclient is compiled with.
packages: | $(VENV)/.pip
	@missing=$$($(BIN)/python -m tests.servers missing) && sh .ci/install-packages $$missing
