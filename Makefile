# make demo: train, export, check and sample `digits` on a fresh clone.   make test: everything CI needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO := demo
NATIVE := $(wildcard runtime/native/*.py runtime/native/src/* runtime/native/include/*)
TRITON := build/triton
SYSTEM_PYTHON ?= /usr/bin/python3
SERVED := $(shell find gpcnn_deploy runtime/gpcnn_runtime export/gpcnn_export -name '*.py')
WHEELS := x86-64-linux arm64-linux armv7-linux riscv64-linux x86-64-macos arm64-macos x86-64-windows arm64-windows

# Plans: tensorrt-rtx builds them, also without a GPU. The demo installs it where it is known to work.
SYSTEM = $(shell $(PYTHON) -c "import platform; print(platform.system() + '-' + platform.machine())")
PLAN_SYSTEMS := Linux-x86_64 Windows-AMD64
HAS_RTX = $(shell test -f $(VENV)/.rtx && echo yes)

.PHONY: demo rtx test lint test-slow test-targets test-browser test-triton test-compat test-ray test-pythons test-oldest web wheels bench \
  bench-native gpu-test clean help

help:
	@echo "make demo          train digits for 90 s, export, also to TensorRT, check parity, sample every class"
	@echo "make test          lint, types, import rules and the tests (under 10 minutes on 2 cores)"
	@echo "make test-slow     the tests that take minutes; GPCNN_DATA_DIR=folder adds real MNIST"
	@echo "make test-targets  the native engine on other CPUs, under qemu-user: the same images, the same bits"
	@echo "make test-browser  the page in Chromium (apt install chromium), and its modules in Node where that is"
	@echo "make test-triton   a real Triton server (x86-64 Linux): the images of gpcnn-sample; Docker's and Kubernetes's files"
	@echo "make test-compat   ONNX engines in OpenVINO, onnxruntime-web, emx-onnx-cgen, OpenCV and tract (under 4 minutes)"
	@echo "make test-ray      drawing and scoring on a Ray cluster of two nodes, one of which is killed (under 2 minutes)"
	@echo "make web           the page's WebAssembly modules anew: after a change of the C sources"
	@echo "make wheels        into dist/: wheels for Linux, macOS and Windows, compiled on this machine"
	@echo "make test-pythons  the runtime alone, on every Python 3.10+ found, with only its own extra"
	@echo "make test-oldest   the runtime on the oldest Python and dependencies that pyproject.toml allows"
	@echo "make bench         the benchmark of the README (about 20 minutes)"
	@echo "make bench-native  the native engine beside ONNX Runtime (under 8 minutes)"
	@echo "make gpu-test      this machine's GPU: the tests that need one, and one report file"

$(VENV)/.export: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[export,cpu]'
	@touch $@

$(VENV)/.native: $(VENV)/.export $(NATIVE)
	$(BIN)/python runtime/native/build.py --if-older
	@touch $@

$(VENV)/.dev: $(VENV)/.export $(VENV)/.native
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.cross: $(VENV)/.dev
	$(PIP) --editable '.[cross]'
	@touch $@

# Never fails: the demo goes on without TensorRT, and says why.
rtx: $(VENV)/.export
ifneq (,$(filter $(SYSTEM),$(PLAN_SYSTEMS)))
	@test -f $(VENV)/.rtx || { $(PIP) --editable '.[tensorrt-rtx]' && touch $(VENV)/.rtx; } || \
	  echo "No TensorRT in this demo: pip could not install tensorrt-rtx (its message is above)."
else
	@echo "No TensorRT in this demo: it installs tensorrt-rtx on $(PLAN_SYSTEMS), and this machine is $(SYSTEM)."
endif

demo: $(VENV)/.export $(VENV)/.native rtx
	rm -rf $(DEMO) && mkdir $(DEMO)
	cd $(DEMO) && ../$(BIN)/gpcnn-train --data digits --time-limit 90s
	cd $(DEMO) && ../$(BIN)/gpcnn-export --format $(if $(HAS_RTX),trt,native)
	cd $(DEMO) && ../$(BIN)/gpcnn-sample --engine model.$(if $(HAS_RTX),plan,gpcnn) --label all --count 8 --scale 4 -o samples.png
	@echo
	@echo "Look at $(abspath $(DEMO))/samples.png: a row of new digits per class, drawn by the exported engine."

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -m "not slow and not gpu and not browser and not triton and not compat and not ray" --numprocesses auto --dist worksteal

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m "slow and not gpu and not browser and not triton and not compat and not ray"

test-targets: $(VENV)/.cross
	$(BIN)/python -m pytest -m slow tests/native/targets.py tests/native/test_c_source.py

$(VENV)/.browser: $(VENV)/.dev
	$(PIP) --editable '.[browser]'
	@touch $@

test-browser: $(VENV)/.browser
	$(BIN)/python -m pytest -m browser tests/browser

$(VENV)/.triton: $(VENV)/.dev
	$(PIP) --editable '.[triton]'
	@touch $@

# Never fails: where there is no Triton for this machine, the tests are skipped and say so. The server's Python backend is linked
# against the libpython of the system, so it is the system's Python that runs it; nvidia-pytriton brings numpy 1.
$(TRITON)/.ready: Makefile pyproject.toml hatch_build.py $(NATIVE) $(SERVED)
	@rm -rf $(TRITON) && mkdir -p $(TRITON)
	{ $(SYSTEM_PYTHON) -m venv $(TRITON) && \
	  $(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check . 'numpy<2' && \
	  $(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps nvidia-pytriton==0.7.0; } || \
	  echo "No Triton here: pip could not install it (its message is above)."
	@touch $@

test-triton: $(VENV)/.triton $(TRITON)/.ready
	$(BIN)/python -m pytest -m triton tests/triton

# Other people's runtimes, each in its pinned version; the tests of one that cannot be had are skipped and say so.
COMPAT := build/compat
COMPAT_BIN := $(COMPAT)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
$(COMPAT)/.made: tests/compat/requirements.txt $(VENV)/.dev
	$(PYTHON) -m venv $(COMPAT)
	grep -v '^#' tests/compat/requirements.txt | while read package; do \
	  $(COMPAT_BIN)/python -m pip install --quiet --disable-pip-version-check "$$package" || true; done
	npm install --prefix $(COMPAT) --no-save --ignore-scripts --no-audit --no-fund --silent onnxruntime-web@1.30.0 || true
	@touch $@

test-compat: $(COMPAT)/.made
	$(BIN)/python -m pytest -m compat tests/compat

# Ray is large, so it has a venv of its own. Never fails: where Ray cannot be had, its tests are skipped and say so.
RAY := build/ray
RAY_BIN := $(RAY)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
$(RAY)/.made: pyproject.toml constraints.txt $(VENV)/.dev
	@rm -rf $(RAY)
	$(PYTHON) -m venv $(RAY)
	$(RAY_BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ray]' || \
	  echo "No Ray here: pip could not install it (its message is above)."
	@touch $@

test-ray: $(RAY)/.made
	$(BIN)/python -m pytest -m ray --numprocesses 3 tests/runtime/ray

web: $(VENV)/.cross
	$(BIN)/python runtime/native/build.py --browser

wheels: $(VENV)/.cross
	for target in $(WHEELS); do \
	  GPCNN_BUILD_TARGET=$$target $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps \
	    --no-build-isolation --wheel-dir dist . || exit 1; \
	done

test-pythons: $(VENV)/.dev
	$(BIN)/python tests/pythons.py

test-oldest: $(VENV)/.dev
	$(BIN)/python tests/oldest.py

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

bench-native: $(VENV)/.dev
	$(BIN)/python -m benchmarks.native

gpu-test: $(VENV)/.dev
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m benchmarks.gpu_report

clean:
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
