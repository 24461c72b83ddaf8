"""One report of the trained run, shared by the tests of all its parts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist_lit.system.csv_file import read_csv_rows


@pytest.fixture(scope="session")
def reported_run(report_output: Any) -> Path:
    """The run's folder; not to be changed."""
    run: Path = report_output.run
    return run


@pytest.fixture(scope="session")
def page(report_output: Any) -> str:
    text: str = report_output.page
    return text


@pytest.fixture(scope="session")
def numbers(report_output: Any) -> dict[str, Any]:
    """The JSON object; not to be changed."""
    found: dict[str, Any] = report_output.numbers
    return found


@pytest.fixture(scope="session")
def predictions(reported_run: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N,), predicted classes (N,) and probabilities (N, C) from the run's predictions.csv."""
    table = np.array(read_csv_rows(reported_run / "predictions.csv")[1:], float)
    return table[:, 1].astype(int), table[:, 2].astype(int), table[:, 3:]
