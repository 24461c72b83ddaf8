"""One report of the trained run, shared by the tests of all its parts."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from mnist_lit.cli.main import main
from mnist_lit.system.csv_file import read_csv_rows


class Output(NamedTuple):
    """What the command left: a run that was not tested before, its page and its JSON object, and standard error."""

    run: Path
    page: str
    numbers: dict[str, Any]
    messages: str


@pytest.fixture(scope="session")
def report_output(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Output:
    run = tmp_path_factory.mktemp("report") / "lightning_logs" / "version_0"
    shutil.copytree(trained, run)
    run.joinpath("predictions.csv").unlink(missing_ok=True)
    messages, out = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(messages), contextlib.redirect_stdout(out):
        assert main(["report", str(run), "--images", "40"]) == 0
        assert main(["report", str(run), "--images", "40", "--json"]) == 0
    page = run.joinpath("report.html").read_text(encoding="utf-8")
    return Output(run, page, json.loads(out.getvalue().splitlines()[-1]), messages.getvalue())


@pytest.fixture(scope="session")
def reported_run(report_output: Output) -> Path:
    """The run's folder; not to be changed."""
    return report_output.run


@pytest.fixture(scope="session")
def page(report_output: Output) -> str:
    return report_output.page


@pytest.fixture(scope="session")
def numbers(report_output: Output) -> dict[str, Any]:
    """The JSON object; not to be changed."""
    return report_output.numbers


@pytest.fixture(scope="session")
def predictions(reported_run: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N,), predicted classes (N,) and probabilities (N, C) from the run's predictions.csv."""
    table = np.array(read_csv_rows(reported_run / "predictions.csv")[1:], float)
    return table[:, 1].astype(int), table[:, 2].astype(int), table[:, 3:]
