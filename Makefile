# EDNAG's tasks; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export WANDB_MODE ?= offline

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick docs lint types bench tables clean

help: ## list the tasks
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.installed ## make .venv and install everything, with the exact versions of constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: setup ## generate architectures for images of digits, then train the best for real (no GPU, no download)
	@rm -rf runs/demo
	$(BIN)/ednag demo --run_dir runs/demo

test: setup ## run all tests, and the examples in the docstrings
	$(BIN)/python -m pytest -n 2 -q
	$(BIN)/python -m pytest -q --doctest-modules src --ignore src/ednag/export/use_onnx.py  # a program for a user, not a module

quick: setup ## the tests that take under two minutes in all
	$(BIN)/python -m pytest -n 2 -q -m "not slow"

lint: setup ## ruff and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup ## mypy, strict
	$(BIN)/mypy

docs: export NO_MKDOCS_2_WARNING = 1
docs: setup ## build the site into build/site; a broken link is an error
	$(BIN)/mkdocs build --strict

bench: setup ## measure: throughput, cost counts, proxies, loop against loop (long; some need images: see their first lines)
	for script in experiments/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

RUNS ?= 1000
tables: setup ## samplers on all benchmark tables, in docs/results.md; RUNS=50 takes minutes (goes on after a kill)
	$(BIN)/python experiments/tables.py --runs $(RUNS)

clean: ## remove everything that is made
	rm -rf $(VENV) runs build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
