# Two commands do everything on a fresh machine: `make smoke` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PYTEST  = $(BIN)/python -m pytest

.PHONY: env smoke test test-slow test-gpu check format bench clean

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

## smoke: the whole pipeline on embedded phantoms, through Ray with one worker; prints the report's path
smoke: env
	$(BIN)/xferlab run jobs/smoke.yaml --workers 1
	$(BIN)/xferlab report jobs/smoke.yaml --out reports/smoke

## test: unit and component tests
test: env
	$(PYTEST)

## test-slow: real Ray clusters, processes killed at random moments, load
test-slow: env
	$(PYTEST) -m slow

## test-gpu: needs a CUDA device
test-gpu: env
	$(PYTEST) -m gpu

## check: style, types, the import table
check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -q tests/test_layers.py

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

## bench: end-to-end training images/s against the ordinary way
bench: env
	$(BIN)/python benchmarks/pipeline.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
