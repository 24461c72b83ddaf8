"""The README's commands run, its tree is the repository's, and CI runs what it says."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

Cli = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[1]
README = ROOT.joinpath("README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
QUICK = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"]


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


def a_photo_of_a_seven(path: str) -> None:
    image = Image.new("RGB", (300, 400), (225, 215, 200))
    ImageDraw.Draw(image).line([(80, 90), (220, 80), (130, 330)], fill=(40, 40, 90), width=16, joint="curve")
    image.save(path)


def test_the_commands_under_use_run_in_their_order(
    cli: Cli, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.environ.get("MNIST_LIT_SHARED"):
        Path("data").symlink_to(request.getfixturevalue("mnist_dir"))
    a_photo_of_a_seven("photo.jpg")
    ran = 0
    for line in BLOCKS[2].splitlines():
        program, *args = shlex.split(line, comments=True)
        if args[:1] == ["serve"]:  # it does not end; tests/test_serve.py runs it
            continue
        mnist = {"data", "tutorial", "fast", "best", "reader"} & {*args}
        if program != "mnist-lit" or (mnist and not Path("data").exists()):
            continue
        code, out, err = cli(*args, *(QUICK if args[0] == "fit" else []))
        assert (code, err if args[0] != "predict" else "") == (0, ""), line
        assert args[0] not in ("test", "validate") or "right" in out
        ran += 1
    assert ran == (13 if Path("data").exists() else 8)


def test_the_python_example_reads_a_photo(capsys: pytest.CaptureFixture[str]) -> None:
    a_photo_of_a_seven("photo.jpg")
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert re.fullmatch(r"7 (0\.9\d*|1\.0) ok\n", capsys.readouterr().out)


def test_no_tracked_file_names_a_registry_or_a_machines_folder() -> None:
    pattern = re.compile(rb"(?<![\w.])/(?:home|root|work|Users)/|--(?:extra-)?index-url|--find-links", re.IGNORECASE)
    for path in tracked() - {"tests/test_readme.py"}:
        assert not pattern.search(ROOT.joinpath(path).read_bytes()), path
    assert "://" not in ROOT.joinpath("constraints.txt").read_text(encoding="utf-8")
