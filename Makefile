# Every target sets up what it needs in .venv; nothing outside the repository is touched.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PROJECTS := pyproject.toml runtime/pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench fuzz docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What a user has: the toolkit and the bundled digits.
$(VENV)/.user: $(PROJECTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e ./runtime -e '.[digits]'
	touch $@

# What a contributor has on top.
$(VENV)/.dev: $(VENV)/.user
	$(PIP) -e ./runtime -e '.[dev]'
	touch $@

demo: $(VENV)/.user ## train on bundled digits, export every target, verify, measure, print the table
	$(BIN)/sen-edge demo --output-dir out/demo

test: $(VENV)/.dev ## everything needed to trust a change
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/.dev ## format, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.user ## the performance claims, as ratios measured side by side
	$(BIN)/python benchmarks/coordinates_vs_dense.py
	$(BIN)/python benchmarks/tflite.py
	$(BIN)/python benchmarks/native.py

C := runtime/sen_runtime/c
FUZZ_SECONDS ?= 60

fuzz: ## feed the C library with what libFuzzer makes up (needs clang)
	mkdir -p build/corpus
	clang -std=c99 -D_POSIX_C_SOURCE=200112L -DSEN_FUZZ -g -O1 -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=all -I $(C)/include $(filter-out %vector.c,$(wildcard $(C)/src/*.c)) \
		tests/c/run_images.c -lm -o build/fuzz
	build/fuzz -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=20 build/corpus

docs: $(VENV)/.dev ## write the generated reference pages
	$(BIN)/python docs/generate_cli.py

clean: ## remove the environment and all outputs
	rm -rf $(VENV) out build dist runtime/CMakeCache.txt runtime/CMakeFiles runtime/sen_runtime/c/libsen.* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
