# `make help` lists the targets. They use the active environment's Python.
PYTHON ?= python
DATA ?= data

.PHONY: help setup check licenses test test-all test-newest test-gpu mutants browser docs pictures notebook fit serve tensorboard

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:  ## install the project with all extras into the active environment
	$(PYTHON) -m pip install -c constraints.txt -e '.[all]'

check:  ## check formatting, lint, types and import contracts
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	lint-imports --no-logo

licenses:  ## list every dependency's license; fail if one is not compatible with MIT
	$(PYTHON) tests/dependencies.py

test:  ## run the tests, a few minutes
	$(PYTHON) -m pytest

test-all:  ## run the slow tests too
	$(PYTHON) -m pytest -m ''

test-newest:  ## run the tests of the last commit with the newest version of every dependency, in a new environment
	PYTHON=$(PYTHON) .ci/run newest

test-gpu:  ## run the tests that need an NVIDIA GPU
	MNIST_LIT_TEST_GPU=0 $(PYTHON) -m pytest -n0 -m gpu tests/gpu

mutants:  ## plant bugs and count how many the tests notice; takes long
	$(PYTHON) tests/mutants.py

browser:  ## test the web page in Chromium, installed with apt-get if missing
	@command -v chromium chromium-browser || $$([ "$$(id -u)" = 0 ] || echo sudo) apt-get install -y --no-install-recommends chromium || \
	  { echo "install Chromium so that \`chromium\` is in PATH, then make browser again" >&2; exit 1; }
	$(PYTHON) -m pytest tests/inference/serve/test_page.py

docs:  ## build the site in build/site, strictly; needs pip install -e '.[docs]'
	$(PYTHON) -m mkdocs build

pictures:  ## regenerate the tutorial's pictures and tables, with MNIST in DATA=FOLDER
	$(PYTHON) docs/generate.py --data_dir $(DATA)

notebook:  ## write docs/tutorial.ipynb from docs/tutorial.md
	$(PYTHON) docs/notebook.py

fit:  ## train the quickstart
	$(PYTHON) -m mnist_lit fit --config quickstart

serve:  ## serve the page to draw digits on
	$(PYTHON) -m mnist_lit serve

tensorboard:  ## show the curves of all runs
	$(PYTHON) -m tensorboard.main --logdir lightning_logs
