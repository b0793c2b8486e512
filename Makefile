# The project's commands. Each does all the set-up it needs, also in a fresh clone.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The lock is resolved for 3.11; a newer Python works where every pin has a wheel for it.
new_enough := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	$$python -c '$(new_enough)' 2>/dev/null && echo $$python && break; done)

# dvc finds python on the path.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# After set-up nothing asks a hub for anything: every file the models need is under artifacts/.
export HF_HUB_OFFLINE := 1
export TRANSFORMERS_OFFLINE := 1
export HF_DATASETS_OFFLINE := 1

# Threads that wait for others sleep, see flamlib/run_notebook.py.
export OMP_WAIT_POLICY ?= passive

# A local CPU wheel of torch is taken where pip's find-links offers one, else the usual CUDA build.
# pip separates places by spaces, uv by commas.
empty :=
space := $(empty) $(empty)
comma := ,
export UV_FIND_LINKS ?= $(subst $(space),$(comma),$(strip $(PIP_FIND_LINKS)))

.DEFAULT_GOAL := help
.PHONY: help setup data repro baselines ablations rehearse release test lab bench docs format lint hooks lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## flamlib[all] installed in .venv, at the versions of requirements.lock

$(READY): requirements.lock pyproject.toml scripts/fix_torchaudio.py
	@test -n "$(PYTHON)" \
		|| { echo "No Python 3.11 or newer on the path; name yours: make setup PYTHON=..."; exit 1; }
	@echo "Installing requirements.lock in $(VENV): a minute or two, longer where torch brings CUDA"
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		"$$(grep '^uv==' requirements.lock)"
	$(BIN)/uv pip install --quiet --python $(VENV) -r requirements.lock -e .
	$(BIN)/python scripts/fix_torchaudio.py
	@touch $@

data: setup ## the recordings, in data/
	$(BIN)/dvc repro data.dvc

# First the digests of the code: by them it shows what is out of date, and how long that will take.
repro: setup ## the whole experiment: whatever is out of date, and nothing else
	@$(BIN)/dvc repro --quiet code
	@$(BIN)/python -m flamlib.estimate || true
	$(BIN)/dvc repro

baselines: setup ## what FLAM is compared with, trained on the same recordings
	$(BIN)/dvc repro train@flam_global train@mga_clap

# Runs share nothing but what they read, so as many go at once as there are cores, a thread each.
# One that is done is not repeated, so this continues where it was stopped.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() or 1)')
ablations: setup ## FLAM with one thing changed, arm by arm (GRID=quick: four arms, one seed; JOBS=2)
	$(BIN)/dvc repro mix train@flam_global
	$(BIN)/python -m flamlib.evaluation.run_study --jobs $(JOBS) $(if $(filter quick,$(GRID)),--quick)

# Nothing is fetched, and no result replaced: projects of their own in artifacts/rehearsal.
rehearse: setup ## the recipes of configs/ at tiny size, recordings to report, in minutes (ARGS=paper: one)
	$(BIN)/python scripts/rehearse.py $(ARGS)

# Of the run whose results are there. Then commit models/ and README.md.
release: setup ## the trained model in its small form, with thresholds and card, in models/flam-small
	$(BIN)/python -m flamlib.release $(ARGS)

test: setup ## the test suite, on two cores (ARGS for pytest)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

# From the root, so that what a run leaves in reports/ can be opened, too.
lab: setup ## JupyterLab on the notebooks
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks

bench: setup ## ours against others on this machine, as ratios (ARGS=--quick)
	for benchmark in benchmarks/*.py; do echo "== $$benchmark"; \
		$(BIN)/python $$benchmark $(ARGS) || exit 1; done

# Only the reader's browser is needed to read it, site/index.html. Its search box is not there in a page
# that is opened as a file: python -m http.server -d site.
docs: setup ## the documentation as a site, in site/ (links checked)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: setup ## format the code, strip the notebooks
	$(BIN)/pre-commit run --all-files || $(BIN)/pre-commit run --all-files

lint: setup ## what format would change, or cannot mend
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

hooks: setup ## have git format and strip at every commit
	$(BIN)/pre-commit install

# torch is looked up afresh, because a pin without +cpu would be met by the CUDA build.
lock: setup ## resolve pyproject.toml again, beside a CPU wheel of torch (newer pins: ARGS=--upgrade)
	$(BIN)/uv pip compile --quiet --python $(VENV) --no-annotate --no-header \
		--upgrade-package torch --all-extras $(ARGS) pyproject.toml -o requirements.lock
	@grep -q '^torch==.*+cpu' requirements.lock \
		|| { echo "torch resolved to a CUDA build: its libraries must not enter the lock"; exit 1; }
	sed -i.bak 's/^\(torch==[^+]*\)+cpu/\1/' requirements.lock && rm requirements.lock.bak

clean: ## remove the environment (data and results stay)
	rm -rf $(VENV)
