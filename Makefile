# `make help` lists the targets. They use the python of the active environment.
PYTHON ?= python

.PHONY: help setup check test test-all fit tensorboard

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:  ## install the project with all extras into the active environment
	$(PYTHON) -m pip install -c constraints.txt -e '.[all]'

check:  ## formatting, lint, types
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

test:  ## the tests, some minutes
	$(PYTHON) -m pytest

test-all:  ## the slow tests too
	$(PYTHON) -m pytest -m ''

fit:  ## train the quickstart
	$(PYTHON) -m mnist_lit fit --config quickstart

tensorboard:  ## the curves of all runs
	$(PYTHON) -m tensorboard.main --logdir lightning_logs
