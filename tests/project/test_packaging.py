"""The wheel is whole: it runs from an empty folder, recipes included."""

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
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in ROOT.joinpath("src/mnist_lit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
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


def test_the_wheel_reads_a_picture_with_the_model_it_ships(installed: Path) -> None:
    image = Image.new("L", (120, 160), 235)
    ImageDraw.Draw(image).line([(70, 20), (60, 140)], fill=20, width=9)
    image.save("one.png")
    program = [sys.executable, "-m", "mnist_lit", "predict", "one.png"]
    env = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(program, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1].split()[:2] == ["one.png", "1"]
    assert str(installed / "mnist_lit" / "pretrained" / "model.onnx") in done.stderr


def test_the_shipped_model_is_five_megabytes_at_most_and_says_where_it_comes_from() -> None:
    folder = ROOT / "src/mnist_lit/pretrained"
    assert {path.name for path in folder.iterdir()} == {"model.ckpt", "model.onnx", "provenance.json"}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 5_000_000
    told = json.loads(folder.joinpath("provenance.json").read_text(encoding="utf-8"))
    assert told["recipe"] == "reader"
    assert told["test"]["n"] >= 3
    content = load_checkpoint(folder / "model.ckpt")
    assert content["mnist_lit"]["config"] == told["config"]
    assert all(
        float(content["hyper_parameters"][name]) == value
        for name, value in recipe("reader")["model"].items()
        if isinstance(value, float)
    )


def recipe(name: str) -> dict[str, dict[str, object]]:
    content: dict[str, dict[str, object]] = yaml.safe_load(find_recipe(name).read_text(encoding="utf-8"))
    return content
