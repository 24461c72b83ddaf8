"""The wheel is whole: it runs from an empty folder, recipes included."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's contents, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_the_package_the_recipes_and_the_licence(installed: Path) -> None:
    names = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    source = {f"mnist_lit/{path.name}" for path in ROOT.joinpath("src/mnist_lit").iterdir() if path.is_file()}
    recipes = {f"mnist_lit/configs/{path.name}" for path in ROOT.joinpath("configs").iterdir()}
    outside = {name for name in names if ".dist-info/" not in name}
    assert outside == source | recipes
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_trains_and_tests_from_an_empty_folder(installed: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(installed)}

    def run(*args: str) -> str:
        program = [sys.executable, *args]
        done = subprocess.run(program, env=env, capture_output=True, text=True, check=True)
        assert done.stderr == ""  # no known noise, and nothing else either
        return done.stdout

    where = run("-c", "import mnist_lit; print(mnist_lit.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    run("-m", "mnist_lit", "fit", "--config", "quickstart", "--trainer.max_epochs", "1")
    assert "images        360" in run("-m", "mnist_lit", "test")
