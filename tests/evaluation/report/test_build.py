"""A report scores the checkpoint it names: a run is tested first if its predictions are missing or out of date."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_lit.evaluation.report.scores import group_scores
from mnist_lit.runs.results import read_predictions

Cli = Callable[..., tuple[int, str, str]]
IMAGES = ("--images", "40")
SCRIPT = Path(__file__).parents[3] / "benchmarks/report_check.py"


def test_an_untested_run_is_tested_once(report_output: Any) -> None:
    messages = report_output.messages.splitlines()  # of two reports
    assert messages.count(f"report: testing {report_output.run} first") == 1
    assert messages.count(f"report: measuring {report_output.run.name}, up to a minute per run") == 2
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
    assert (code, err) == (0, "report: measuring version_3, up to a minute per run\n")
    found = json.loads(out)
    assert (found["name"], found["run"]) == ("version_3", "version_3/seed_0")
    assert (found["group"]["n"], found["group"]["sd"]) == (2, 0.0)
    assert found["group"]["mean"] == found["test"]["accuracy"]
    assert [one["index"] for one in found["group"]["suspects"]] == [one["index"] for one in found["test"]["mistakes"]]
    assert found["origin"]["commands"][0] == "mnist-lit fit --config quickstart --seeds 0,1"
    assert cli("report", *IMAGES)[0] == 0  # the newest run is one of a complete group
    assert "version_3/seed_1" in Path("lightning_logs/version_3/report.html").read_text(encoding="utf-8")


def test_the_same_run_gives_the_same_bytes(reported_run: Path, page: str, cli: Cli) -> None:
    assert cli("report", str(reported_run), *IMAGES, "--output", "again.html")[0] == 0
    assert Path("again.html").read_text(encoding="utf-8") == page


def test_an_unwritable_page_is_one_line(reported_run: Path, cli: Cli) -> None:
    code, _, err = cli("report", str(reported_run), *IMAGES, "--output", "no/where.html")
    assert (code, err) == (
        2,
        "mnist-lit: cannot write no/where.html: No such file or directory; create the folder no first\n",
    )


@pytest.mark.slow
def test_an_independent_script_computes_the_same_numbers(reported_run: Path) -> None:
    check = [sys.executable, str(SCRIPT), str(reported_run), *IMAGES]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, " 0 of them wrong" in done.stdout) == (0, True), (done.stdout + done.stderr)[-2000:]


def keys_of(value: Any, path: str = "") -> set[str]:
    """The paths to everything that is neither an object nor a list of objects, as `test.classes[].name`."""
    if isinstance(value, dict):
        return {found for name, one in value.items() for found in keys_of(one, f"{path}.{name}" if path else name)}
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return {found for one in value for found in keys_of(one, f"{path}[]")}
    return {path}


def test_the_documented_keys_are_those_of_the_json_object(numbers: dict[str, Any], reported_run: Path) -> None:
    tested = read_predictions(reported_run)
    assert tested
    group = group_scores(["a", "b"], [tested] * 2, [1.0, 1.0])
    text = Path(__file__, "../../../../docs/report.md").resolve().read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    documented = {key for row in rows for key in re.findall(r"`([^`]+)`", row)}
    present = keys_of(numbers) | keys_of({"group": group})
    patterns = {key: re.compile(re.escape(key).replace(r"\*", r"[^.]+(?:\.[^.\[\]]+)?")) for key in documented}
    undocumented = {key for key in present if not any(pattern.fullmatch(key) for pattern in patterns.values())}
    assert undocumented <= {"group", "test.suspects", "group.suspects", "test.confused"}  # null, or empty here
    stale = {name for name, pattern in patterns.items() if not any(map(pattern.fullmatch, present))}
    assert stale <= {"test.suspects[].*", "group.suspects[].*"}
