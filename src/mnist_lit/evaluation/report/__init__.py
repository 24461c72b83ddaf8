"""The report of a run or a group of seeds: numbers (`build.py`, from `scores.py`, `robustness.py` and `provenance.py`)
and the page that shows them (`page.py`, `charts.py`, `activations.py`).
"""
