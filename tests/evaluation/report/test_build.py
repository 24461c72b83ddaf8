"""A report scores the checkpoint it names: a run is tested first if its predictions are missing or out of date."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_lit.runs.results import read_predictions

Cli = Callable[..., tuple[int, str, str]]
IMAGES = ("--images", "40")
SCRIPT = Path(__file__).parents[3] / "benchmarks/report_check.py"


def test_an_untested_run_is_tested_once(report_output: Any) -> None:
    assert report_output.messages == f"report: testing {report_output.run} first\n"
    assert read_predictions(report_output.run)


@pytest.mark.slow
def test_predictions_of_another_checkpoint_are_replaced(reported_run: Path, cli: Cli) -> None:
    shutil.copytree(reported_run, "lightning_logs/version_0")
    table = Path("lightning_logs/version_0/predictions.csv")
    good = table.read_text()
    head, first, rest = good.split("\n", 2)
    cells = first.split(",")
    cells[3:5] = "0.5", "0.5"
    table.write_text("\n".join((head, ",".join(cells), rest)))
    code, out, err = cli("report", *IMAGES)  # the newest run
    assert (code, "testing" in err) == (0, True)
    assert out.startswith("report: lightning_logs/version_0/report.html, ")
    assert table.read_text() == good


def test_a_group_is_reported_as_one(reported_run: Path, cli: Cli) -> None:
    for seed in (0, 1):
        shutil.copytree(reported_run, f"lightning_logs/version_3/seed_{seed}")
    Path("lightning_logs/version_3/group.txt").write_text("mnist-lit fit --config quickstart\n")
    code, out, err = cli("report", "version_3", *IMAGES, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["name"], found["run"]) == ("version_3", "version_3/seed_0")
    assert (found["group"]["n"], found["group"]["sd"]) == (2, 0.0)
    assert found["group"]["mean"] == found["test"]["accuracy"]
    assert [one["index"] for one in found["group"]["suspects"]] == [one["index"] for one in found["test"]["mistakes"]]
    assert found["origin"]["commands"][0] == "mnist-lit fit --config quickstart --seeds 0,1"
    assert cli("report", "version_3", *IMAGES)[0] == 0
    assert "version_3/seed_1" in Path("lightning_logs/version_3/report.html").read_text(encoding="utf-8")


def test_the_same_run_gives_the_same_bytes(reported_run: Path, page: str, cli: Cli) -> None:
    assert cli("report", str(reported_run), *IMAGES, "--output", "again.html")[0] == 0
    assert Path("again.html").read_text(encoding="utf-8") == page


def test_an_unwritable_page_is_one_line(reported_run: Path, cli: Cli) -> None:
    code, _, err = cli("report", str(reported_run), *IMAGES, "--output", "no/where.html")
    assert (code, err) == (2, "mnist-lit: cannot write no/where.html: No such file or directory\n")


@pytest.mark.slow
def test_an_independent_script_computes_the_same_numbers(reported_run: Path) -> None:
    check = [sys.executable, str(SCRIPT), str(reported_run), *IMAGES]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, " 0 of them wrong" in done.stdout) == (0, True), (done.stdout + done.stderr)[-2000:]
