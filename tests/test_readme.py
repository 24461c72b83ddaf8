"""The README's tree is the repository's, and CI runs what it says. tests/test_docs.py runs its commands."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT.joinpath("README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def tracked() -> set[str]:
    try:
        run = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout to know the tracked files")
    return set(run.stdout.splitlines())


def tree() -> set[str]:
    """The paths of the README's tree; a folder without contents there stands for all that is in it."""
    block = README.partition("## What lies where")[2].partition("```\n")[2].partition("```")[0]
    paths, folder = set(), ""
    for line in block.splitlines():
        name = line.split()[0]
        if line.startswith(" "):
            paths.add(folder + name)
        elif name.endswith("/"):
            folder = name
        else:
            paths.add(name)
    return paths


def test_the_tree_is_the_tracked_files() -> None:
    assert tree() == {path for path in tracked() if not path.startswith("tests/")}


def test_every_room_has_tests_or_is_tested_with_another() -> None:
    tested = {path.stem.removeprefix("test_") for path in ROOT.joinpath("tests").glob("test_*.py")}
    together = {
        "engine": "cli",
        "fetch": "cli",
        "summary": "network",
        "callbacks": "cli",
        "tables": "cli",
        "recipes": "cli",
        "processes": "distributed",
        "calibrate": "calibration",
        "ink": "pixels",
        "layout": "pixels",
        "strokes": "pixels",
        "models": "reader",
        "children": "group",
        "space": "sweep",
        "study": "sweep",
    }
    rooms = {path.stem for path in ROOT.joinpath("src/mnist_lit").glob("*.py")} - {"__init__", "__main__", "errors"}
    by_doctest = {"suggest"}
    assert {together.get(room, room) for room in rooms - by_doctest} <= tested


def test_two_commands_open_the_readme_and_ci_runs_the_second() -> None:
    first, second = BLOCKS[:2]
    assert first.count("\n") == second.count("\n") == 1
    assert first.strip().endswith("mnist-lit fit --config quickstart")
    wanted = re.search(r"sed -n 's/(\^.*?)\$/", ROOT.joinpath(".ci/run").read_text(encoding="utf-8"))
    assert wanted
    assert re.fullmatch(wanted[1].replace(r"\(", "(").replace(r"\)", ")"), second.strip())


def test_no_tracked_file_names_a_registry_or_a_machines_folder() -> None:
    pattern = re.compile(rb"(?<![\w.])/(?:home|root|work|Users)/|--(?:extra-)?index-url|--find-links", re.IGNORECASE)
    for path in tracked() - {"tests/test_readme.py"}:
        assert not pattern.search(ROOT.joinpath(path).read_bytes()), path
    assert "://" not in ROOT.joinpath("constraints.txt").read_text(encoding="utf-8")
