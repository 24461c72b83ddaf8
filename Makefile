# `make help` lists the targets. They use the python of the active environment.
PYTHON ?= python
DATA ?= data

.PHONY: help setup check test test-all browser docs fit serve tensorboard

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:  ## install the project with all extras into the active environment
	$(PYTHON) -m pip install -c constraints.txt -e '.[all]'

check:  ## formatting, lint, types, import contracts
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	lint-imports --no-logo

test:  ## the tests, some minutes
	$(PYTHON) -m pytest

test-all:  ## the slow tests too
	$(PYTHON) -m pytest -m ''

browser:  ## the page's tests in Chromium, which Debian's apt-get installs if it is missing
	@command -v chromium chromium-browser || $$([ "$$(id -u)" = 0 ] || echo sudo) apt-get install -y --no-install-recommends chromium || \
	  { echo "install Chromium so that \`chromium\` is in PATH, then make browser again" >&2; exit 1; }
	$(PYTHON) -m pytest tests/inference/serve/test_page.py

docs:  ## the tutorial's pictures and tables anew; MNIST's where DATA=FOLDER holds it
	$(PYTHON) docs/generate.py --data_dir $(DATA)

fit:  ## train the quickstart
	$(PYTHON) -m mnist_lit fit --config quickstart

serve:  ## the page to draw digits on
	$(PYTHON) -m mnist_lit serve

tensorboard:  ## the curves of all runs
	$(PYTHON) -m tensorboard.main --logdir lightning_logs
