# Two commands set everything up: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
REFERENCE ?= .venv-reference
PEERS ?= torch==2.13.0 monai==1.6.1 einops
OUT ?= runs/quickstart
SUBJECTS ?= 160
# Tests run so many at a time, a file in one process: each takes up to 6 GB.
WORKERS ?= 2
PYTEST = -m pytest -n $(WORKERS) --dist loadfile
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.2

.PHONY: quickstart test test-all test-reference lint format bench lock clean

quickstart: $(VENV)/.user
	@echo "The quickstart now takes about 5 minutes on two CPU cores: phantoms and"
	@echo "prepare 0.5, pretrain 3, fine-tune twice 2. It downloads nothing more."
	$(BIN)/brainjax phantom --subjects $(SUBJECTS) --spacing 4 --out $(OUT)/phantoms
	$(BIN)/brainjax prepare $(OUT)/phantoms --labels $(OUT)/phantoms/participants.tsv \
	  --spacing 4 --out $(OUT)/prepared
	$(BIN)/brainjax pretrain --config configs/quickstart.py --workdir $(OUT)/pretrain \
	  --config.data.path=$(OUT)/prepared
	$(BIN)/brainjax finetune --config configs/quickstart_age.py --workdir $(OUT)/age \
	  --config.data.path=$(OUT)/prepared --config.init=$(OUT)/pretrain
	$(BIN)/brainjax finetune --config configs/quickstart_age.py --workdir $(OUT)/age_scratch \
	  --config.data.path=$(OUT)/prepared --config.init=$(OUT)/pretrain --config.weights=random
	$(BIN)/brainjax evaluate $(OUT)/pretrain $(OUT)/age $(OUT)/age_scratch
	$(BIN)/brainjax report $(OUT)/pretrain $(OUT)/age $(OUT)/age_scratch \
	  --cohort $(OUT)/phantoms --out $(OUT)/report.html

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python $(PYTEST) -m "not slow and not reference"

test-all: $(VENV)/.dev lint
	$(BIN)/python $(PYTEST) -m "not reference"

# Beside the packages whose numbers we claim to equal, in an environment of their own
# (1 GB with PyTorch's CPU build; PIP_EXTRA_INDEX_URL may name where that one is).
test-reference: $(REFERENCE)/.done
	$(REFERENCE)/bin/python -m pytest -m reference

$(REFERENCE)/.done: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(REFERENCE)
	$(REFERENCE)/bin/python -m pip install --quiet --disable-pip-version-check \
	  -c requirements.lock -e '.[dev]' $(PEERS)
	touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One command each; PEER=PYTHON names an interpreter with torch and monai, DEVICE=gpu
# takes the sizes of a GPU. benchmarks/RESULTS.md keeps what came.
DEVICE ?= cpu
BENCH = $(BIN)/python benchmarks
MEASURE = --device $(DEVICE) $(if $(PEER),--peer-python $(PEER))

bench: $(VENV)/.dev
	$(BENCH)/step.py $(MEASURE)
	$(if $(PEER),$(BENCH)/peers.py $(MEASURE))
	$(BENCH)/ntxent.py $(MEASURE)
	$(BENCH)/augment.py $(MEASURE)
	$(BENCH)/loader.py $(MEASURE)
	$(BENCH)/end_to_end.py $(MEASURE)
	$(BENCH)/scaling.py
	$(BENCH)/program.py
	$(BENCH)/prepare.py

# What was tested, pinned; written for every platform at once.
lock: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev \
	  --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), sys.version' \
	  || { echo "brainjax needs Python >= 3.11; say which: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: $(VENV)/bin/python pyproject.toml requirements.lock
	@echo "Installing into $(VENV), about a minute; then the quickstart takes about 5."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[phantom,report]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	touch $@ $(VENV)/.user

clean:
	rm -rf runs .cache build dist
