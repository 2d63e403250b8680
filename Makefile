# `make demo` and `make test` set up .venv themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One more than the cores of CI, because a worker waits a quarter of its time for programs that it has started.
WORKERS ?= 3

.PHONY: demo test lint types runtimes pythons boards wheel docs zoo hashes check clean

demo: $(VENV)/.installed
	@mkdir -p build
	$(BIN)/edgecnn train conv_pool --data digits -o build/conv_pool.pt
	$(BIN)/edgecnn show conv_pool
	$(BIN)/edgecnn export conv_pool --weights build/conv_pool.pt --data digits --precisions fp32,int8 -o build/conv_pool
	$(BIN)/edgecnn check build/conv_pool --data digits --model conv_pool --weights build/conv_pool.pt

# worksteal: each worker gets consecutive tests, and so starts a file's boards and bundles once; a worker that finishes
# first takes tests from the others.
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.installed
	$(BIN)/mypy -p edgecnn

# The other runtimes, each in a separate venv where the tests look for it. tflite-runtime ends at Python 3.11 and needs
# numpy 1; TFLite Micro is published as pre-releases only; OpenVINO in .venv would take part in every check.
runtimes: .venv-tflite-runtime/.installed .venv-tflite-micro/.installed .venv-openvino/.installed

.venv-%/.installed: $(VENV)/.installed $(wildcard targets/runtimes/*.py)
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet \
		$$($(BIN)/python -c 'from edgecnn.targets.environments import ENVIRONMENT_SPECS as specs; print(*specs["$*"].requirements)')
	@touch $@

# The emulated boards that the tests run on, in EDGECNN_CACHE or in the user's cache folder. Needs qemu-user.
boards: $(VENV)/.installed
	$(BIN)/edgecnn targets emulate pi4 pi5 pi2 x86-64-v3

# The agent must run under every Python that a device may have: a venv for each that is installed, from PATH or from pyenv.
pythons:
	@for version in 3.9 3.10 3.12 3.13; do \
		found=; \
		for python in python$$version "$$HOME"/.pyenv/versions/$$version.*/bin/python; do \
			if "$$python" -c "import venv" 2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then echo "Python $$version is not installed: the agent is not tested under it"; continue; fi; \
		if [ -e .venv-agent-$$version/.installed ]; then continue; fi; \
		"$$found" -m venv .venv-agent-$$version && \
		.venv-agent-$$version/bin/python -m pip install --quiet --no-compile --only-binary=:all: numpy onnxruntime && \
		touch .venv-agent-$$version/.installed && echo "Python $$version: ready" || exit 1; \
	done

# The wheel, installed in a separate venv and tested from outside the checkout.
wheel: $(VENV)/.installed
	PYTHON=$(BIN)/python bash .ci/wheel

# docs/operators.md, docs/commands.md and the JSON schemas, generated from the tables, the command line and the classes.
docs: $(VENV)/.installed
	$(BIN)/python docs/generate.py

# docs/zoo.md: every model of the zoo exported and checked.
zoo: $(VENV)/.installed
	$(BIN)/python docs/zoo.py

# tests/support/artifact_hashes.json: the SHA-256 of every file that is exported. Only when files are meant to change.
hashes: $(VENV)/.installed
	PYTHONPATH=tests $(BIN)/python -m support.artifact_hashes --write

# What CI runs.
check:
	bash .ci/run

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgecnn needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info
