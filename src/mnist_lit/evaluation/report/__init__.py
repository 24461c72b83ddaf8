"""The report of a run or a group of seeds: numbers (`scores.py`, `robustness.py`, `provenance.py`) and the page that
shows them (`page.py`, `charts.py`, `activations.py`).
"""
