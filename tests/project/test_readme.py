"""CONTRIBUTING lists the packages, tests mirror them, CI runs the README's test command; test_docs.py runs the rest."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT.joinpath("README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def tracked_files() -> set[str]:
    try:
        run = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout")
    return set(run.stdout.splitlines())


def test_contributing_lists_every_package_and_top_level_file() -> None:
    text = ROOT.joinpath("CONTRIBUTING.md").read_text(encoding="utf-8")
    block = text.partition("## Where things live")[2].partition("```\n")[2].partition("```")[0]
    named = {line.split()[0] for line in block.splitlines()[1:]}
    source = ROOT / "src/mnist_lit"
    packages = {f"{path.parent.name}/" for path in source.glob("*/__init__.py")}
    files = {path.name for path in source.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert named == packages | files


COVERED_ELSEWHERE = {  # module → the tests that cover it
    "callbacks/resume": "end_to_end/test_distributed",
    "ema": "test_module",
    "cli/quiet": "end_to_end/test_distributed",
    "inference/serve/limits": "inference/serve/test_guard",
}


def test_every_module_has_tests_beside_its_package() -> None:
    """tests/data/test_loaders.py covers data/loaders.py, except for the modules in the table above."""
    source, missing = ROOT / "src/mnist_lit", []
    for path in sorted(source.rglob("*.py")):
        module = path.relative_to(source).with_suffix("")
        if module.name in ("__init__", "__main__", "errors"):
            continue
        tests = COVERED_ELSEWHERE.get(module.as_posix(), f"{module.parent}/test_{module.name}")
        if not ROOT.joinpath("tests", f"{tests}.py").exists():
            missing.append(module.as_posix())
    assert not missing


def test_the_readme_starts_with_two_commands_and_ci_runs_the_second() -> None:
    first, second = BLOCKS[:2]
    assert first.count("\n") == second.count("\n") == 1
    assert first.strip().endswith("mnist-lit fit --config quickstart")
    pattern = re.search(r"sed -n 's/(\^.*?)\$/", ROOT.joinpath(".ci/run").read_text(encoding="utf-8"))
    assert pattern
    assert re.fullmatch(pattern[1].replace(r"\(", "(").replace(r"\)", ")"), second.strip())
    assert second.startswith("python3 ")  # what `make test-newest` replaces
    assert second.count(" -c constraints.txt ") == 1


def test_no_tracked_file_contains_a_registry_or_a_machine_path() -> None:
    pattern = re.compile(rb"(?<![\w.])/(?:home|root|work|Users)/|--(?:extra-)?index-url|--find-links", re.IGNORECASE)
    for path in tracked_files() - {"tests/project/test_readme.py"}:
        assert not pattern.search(ROOT.joinpath(path).read_bytes()), path
    assert "://" not in ROOT.joinpath("constraints.txt").read_text(encoding="utf-8")
