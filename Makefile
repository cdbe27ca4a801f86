# The words of this project. A bare `make` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_SECONDS ?=
KAFKA ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check lint bench lock fmt schemas clean

help: ## List these words
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## A whole line on this machine: simulated plant to trace (DEMO_SECONDS=60 ends by itself; KAFKA=1: through Kafka)
	@DEMO_SECONDS=$(DEMO_SECONDS) $(BIN)/threadline demo $(if $(filter-out 0 no,$(KAFKA)),--route kafka)

test: $(STAMP) ## Every test, on real servers; what is missing is skipped by name
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: lint ## What `lint` says, and the unit tests
	$(BIN)/python -m pytest -q tests/unit

lint: $(STAMP) ## Format, lint, types, import contracts, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

bench: $(STAMP) ## Measure; the table and build/bench.json
	$(BIN)/python -m tests.bench

fmt: $(STAMP) ## Format and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: $(STAMP) ## Publish the JSON schemas of events and configuration into docs/schemas
	$(BIN)/python -c "import json; from protocols import events; print(json.dumps(events.json_schema(), indent=1, sort_keys=True))" > docs/schemas/events-1.json

lock: $(STAMP) ## Choose new versions for lock.txt
	$(BIN)/uv pip compile --quiet --universal --upgrade --all-extras --no-emit-index-url \
		--no-header --python-version 3.11 pyproject.toml --output-file lock.txt

clean: ## Remove what was built; the data of demos too
	rm -rf $(VENV) build .threadline

# One virtual environment, made again when the interpreter goes, filled again when the lock changes.
$(STAMP): pyproject.toml lock.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=/path/to/python"; exit 2; }
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint lock.txt --editable '.[dev]'
	@touch $@
