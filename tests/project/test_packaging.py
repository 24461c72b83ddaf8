"""The wheel is complete: it works from an empty folder, recipes and shipped model included."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageDraw

from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.recipes import find_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's contents and nothing from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(folder), str(ROOT)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run_installed(installed: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the wheel's package instead of the checkout's."""
    env = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run([sys.executable, *args], env=env, capture_output=True, text=True, check=True)


def test_the_wheel_contains_the_package_the_recipes_and_the_license(installed: Path) -> None:
    names = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in ROOT.joinpath("src/mnist_lit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    recipes = {f"mnist_lit/configs/{path.name}" for path in ROOT.joinpath("configs").iterdir()}
    outside = {name for name in names if ".dist-info/" not in name}
    assert outside == source | recipes
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_trains_and_tests_from_an_empty_folder(installed: Path) -> None:
    def run(*args: str) -> str:
        done = run_installed(installed, *args)
        assert done.stderr == ""  # no warnings
        return done.stdout

    where = run("-c", "import mnist_lit; print(mnist_lit.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    run("-m", "mnist_lit", "fit", "--config", "quickstart", "--trainer.max_epochs", "1")
    assert "images        360" in run("-m", "mnist_lit", "test")


def test_the_wheel_reads_a_picture_with_its_shipped_model(installed: Path) -> None:
    image = Image.new("L", (120, 160), 235)
    ImageDraw.Draw(image).line([(70, 20), (60, 140)], fill=20, width=9)
    image.save("one.png")
    done = run_installed(installed, "-m", "mnist_lit", "predict", "one.png")
    assert done.stdout.splitlines()[1].split()[:2] == ["one.png", "1"]
    assert done.stderr == "predict: pretrained\n"


def test_the_shipped_model_is_small_and_has_its_provenance() -> None:
    folder = ROOT / "src/mnist_lit/pretrained"
    assert {path.name for path in folder.iterdir()} == {"model.ckpt", "model.onnx", "provenance.json"}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 5_500_000
    provenance = json.loads(folder.joinpath("provenance.json").read_text(encoding="utf-8"))
    assert provenance["recipe"] == "reader"
    assert provenance["test"]["n"] >= 3
    content = load_checkpoint(folder / "model.ckpt")
    assert content["mnist_lit"]["config"] == provenance["config"]
    recipe = yaml.safe_load(find_recipe("reader").read_text(encoding="utf-8"))
    numbers = {name: value for name, value in recipe["model"].items() if isinstance(value, float)}
    assert numbers
    assert {name: float(content["hyper_parameters"][name]) for name in numbers} == numbers
