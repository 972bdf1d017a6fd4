# The README's commands. Everything is installed into .venv; delete it to start afresh.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all
RESULTS := results/quickstart
GPU_OUTPUT ?= results/gpu_tests.txt

.PHONY: quickstart test test-gpu test-peers campaign lint ruff ruff-format mypy snakefmt fix install clean

# Networks this small train no faster on two cores: model and classifier train side by side.
# This is `snakemake` that also removes the lock of a run that was killed.
quickstart: $(VENV)/.run
	@PYTHONPATH=workflow $(BIN)/python -m flowquant.config.session --cores $(CORES) \
		--set-threads train=1 classifier=1 quantize=1 refine=1 --quiet host reason \
		--configfile config/quickstart.yaml
	@$(BIN)/snakemake --quiet all --configfile config/quickstart.yaml --report $(RESULTS)/report.html
	@echo
	@cat $(RESULTS)/summary.md
	@echo "report:  $(RESULTS)/report.html  (open it in a browser)"
	@echo "plots:   $(RESULTS)/plots/"
	@echo "samples: $(RESULTS)/sampling/digits/  (a PNG grid and a safetensors file for each variant)"
	@echo "models:  $(RESULTS)/models/, $(RESULTS)/quantized_models/digits/"

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses 2 --ignore tests/workflow
	$(BIN)/python -m pytest --numprocesses 2 tests/workflow

# Other projects' quantizers by their own code, which is installed beside what else is there.
test-peers: $(VENV)/.peers
	$(BIN)/python -m pytest tests/peers

# What needs a GPU; kernels compile side by side. The output says what it ran on.
test-gpu: $(VENV)/.dev
	bash -o pipefail -c '$(BIN)/python -m pytest -m gpu tests/gpu --numprocesses 4 --durations 10 | tee $(GPU_OUTPUT)'

# Random kills, malformed inputs and configurations, for about half an hour on two cores.
campaign: $(VENV)/.dev
	PYTHONPATH=workflow:tests $(BIN)/python -m campaigns

# Also pre-commit's hooks, one each.
lint: ruff ruff-format mypy snakefmt
	$(BIN)/snakemake --lint

ruff: $(VENV)/.dev
	$(BIN)/ruff check .

ruff-format: $(VENV)/.dev
	$(BIN)/ruff format --check .

mypy: $(VENV)/.dev
	$(BIN)/mypy

snakefmt: $(VENV)/.dev
	$(BIN)/snakefmt --check Snakefile workflow/rules

# Schema, tables and help of the settings, written anew from flowquant.config.
fix: $(VENV)/.dev
	PYTHONPATH=workflow $(BIN)/python -m flowquant.config.documents

install: $(VENV)/.run

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: found Python %d.%d; flowquant needs 3.11 or newer. Name one: make PYTHON=python3.12 …" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.run: $(VENV)/.python envs/requirements.txt
	$(BIN)/pip install --quiet -r envs/requirements.txt
	touch $@

$(VENV)/.dev: $(VENV)/.run envs/requirements-dev.txt envs/requirements-oracles.txt
	$(BIN)/pip install --quiet -r envs/requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps -r envs/requirements-oracles.txt
	touch $@

$(VENV)/.peers: $(VENV)/.dev envs/requirements-peers.txt
	$(BIN)/pip install --quiet -r envs/requirements-peers.txt
	touch $@

clean:
	rm -rf $(VENV) .snakemake results/quickstart
