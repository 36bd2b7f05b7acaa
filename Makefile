# make demo: train, export, check and sample `digits` on a fresh clone.   make test: everything CI needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO := demo
NATIVE := $(wildcard runtime/native/*.py runtime/native/src/* runtime/native/include/*)
WHEELS := x86-64-linux arm64-linux armv7-linux riscv64-linux x86-64-macos arm64-macos x86-64-windows arm64-windows

.PHONY: demo test lint test-slow test-targets test-pythons wheels bench gpu-test clean help

help:
	@echo "make demo          train digits for 90 s, export, check parity, sample every class"
	@echo "make test          lint, types, import rules and the tests (under 10 minutes on 2 cores)"
	@echo "make test-slow     the tests that take minutes; GPCNN_DATA_DIR=folder adds real MNIST"
	@echo "make test-targets  the native engine on other CPUs, under qemu-user: the same images, the same bits"
	@echo "make wheels        into dist/: wheels for Linux, macOS and Windows, compiled on this machine"
	@echo "make test-pythons  the runtime alone, on every Python 3.10+ found, with only its own extra"
	@echo "make bench         the benchmark of the README (about 20 minutes)"
	@echo "make gpu-test      TensorRT on this machine's GPU: one report file"

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

demo: $(VENV)/.export $(VENV)/.native
	rm -rf $(DEMO) && mkdir $(DEMO)
	cd $(DEMO) && ../$(BIN)/gpcnn-train --data digits --time-limit 90s
	cd $(DEMO) && ../$(BIN)/gpcnn-export --format onnx
	cd $(DEMO) && ../$(BIN)/gpcnn-sample --engine model.onnx --label all --count 8 --scale 4 -o samples.png
	@echo
	@echo "Look at $(abspath $(DEMO))/samples.png: a row of new digits per class, drawn by the exported engine."

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -m "not slow and not gpu" --numprocesses auto --dist worksteal

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m "slow and not gpu"

test-targets: $(VENV)/.cross
	$(BIN)/python -m pytest -m slow tests/native/targets.py

wheels: $(VENV)/.cross
	for target in $(WHEELS); do \
	  GPCNN_BUILD_TARGET=$$target $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps \
	    --no-build-isolation --wheel-dir dist . || exit 1; \
	done

test-pythons: $(VENV)/.dev
	$(BIN)/python tests/pythons.py

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

gpu-test: $(VENV)/.dev
	$(BIN)/python -m benchmarks.gpu_report

clean:
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
