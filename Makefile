# `make reproduce`, `make book`, `make test`, `make bench`, `make lint`: each sets up .venv from the lock when needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
# Modules are compiled once, even if the environment says otherwise: tests and reports start many processes.
export PYTHONDONTWRITEBYTECODE :=
PY := $(VENV)/bin/python

.PHONY: reproduce book test pytest lint bench lock clean-venv

reproduce: $(VENV)/.ready
	$(PY) -m hw_report build
	$(PY) -m hw_report build --profile sample

book: $(VENV)/.ready
	$(PY) -m hw_report book

test: $(VENV)/.ready
	@$(MAKE) --no-print-directory --jobs=2 pytest lint

# One process for each of CI's cores; each takes one thread. The linter runs while tests wait for other programs.
pytest: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal

lint: $(VENV)/.ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(VENV)/.ready
	$(PY) -m benchmarks --write

# The marker comes last, so that an interrupted installation is done again.
$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# Renews the lock from pyproject.toml (needs uv).
lock:
	uv pip compile pyproject.toml --extra dev --extra serve --extra tensorboard --extra postgres --extra mysql --universal \
	  --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url --no-header --output-file requirements.lock

clean-venv:
	rm -rf $(VENV)
