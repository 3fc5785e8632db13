# Two commands: `make demo` shows the whole pipeline, `make test` proves it. Both work on a fresh
# Debian or Ubuntu machine with Python 3.11 or newer, and make their own .venv.

BIN := .venv/bin
export PYTHONSAFEPATH := 1
export OPENBLAS_NUM_THREADS := 1 # tests and passes run side by side as it is

.PHONY: demo test conformance check format models-table benchmarks quality clean

demo:
	@sh tools/install.sh models
	@$(BIN)/python -m gossamer.tools.demo

test:
	@sh tools/install_system.sh
	@sh tools/install.sh dev
	@$(MAKE) --no-print-directory check
	$(BIN)/pytest -q -n auto

# every kernel on every machine that runs here, with cases drawn anew; `make test` runs a fixed part of them
BATCHES ?= 10
conformance:
	$(BIN)/pytest -q -n auto tests/conformance --batches $(BATCHES)

check:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

models-table:
	$(BIN)/python -m gossamer.tools.model_table ../shared/models -o docs/models.md

benchmarks: # an hour or more; parts of it: $(BIN)/python -m gossamer.tools.benchmarks --help
	@sh tools/install_system.sh
	@sh tools/install.sh dev
	$(BIN)/python -m gossamer.tools.benchmarks build/benchmarks -o docs/benchmarks.md

# accuracy against bytes of every method, with plots: docs/compression.md (an hour; what was measured is kept)
quality:
	@sh tools/install.sh models
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[plots]'
	$(BIN)/python -m gossamer.tools.quality ../shared build/quality -o docs/compression.md

clean:
	rm -rf .venv build demo-out runtime/web/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
