"""Every shipped recipe runs, is flat and complete, and states its expected result."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from mnist_lit.runs.recipes import recipes_dir

Cli = Callable[..., tuple[int, str, str]]
RECIPES = sorted(recipes_dir().glob("*.yaml"))

pytestmark = pytest.mark.usefixtures("small_calibration")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_for_a_step(path: Path, cli: Cli) -> None:
    small = ["--data.dataset", "digits", "--data.val_size", "180", "--trainer.fast_dev_run", "true"]
    code, out, err = cli("fit", "--config", path.stem, *small)
    assert (code, err) == (0, "")
    assert "(1 step)" in out


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_two_levels_of_plain_values(path: Path) -> None:
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(recipe) - {"keep_epochs"} == {"seed_everything", "model", "data", "trainer"}
    for section in ("model", "data", "trainer"):
        assert all(isinstance(value, int | float | str) for value in recipe[section].values())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipes_header_states_its_command_result_and_duration(path: Path) -> None:
    header = path.read_text(encoding="utf-8").partition("\nseed_everything")[0]
    assert header.startswith(f"# mnist-lit fit --config {path.stem}\n")
    for word in ("Expect", "Takes", "torch 2."):
        assert word in header, word
    assert "TODO" not in header


GOLDEN = {  # training losses of the first five steps; a change here is a change of the recipe
    "best": [6.529906, 4.497173, 3.114912, 2.815862, 2.745793],
    "fast": [5.979500, 2.999012, 2.589546, 2.105683, 1.804977],
    "quickstart": [5.654158, 25.793240, 12.709274, 8.207747, 5.209413],
    "reader": [7.555799, 4.721321, 3.294029, 2.715883, 2.615349],
    "tutorial": [2.304078, 2.300562, 2.307022, 2.304058, 2.300327],
}


def test_every_recipe_has_golden_losses() -> None:
    assert set(GOLDEN) == {path.stem for path in RECIPES}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ("best", "reader", "tutorial") else name for name in GOLDEN],
)
def test_a_recipe_reproduces_its_golden_losses(name: str, cli: Cli, request: pytest.FixtureRequest) -> None:
    fit = ["fit", "--config", name, "--trainer.max_steps", "5", "--trainer.log_every_n_steps", "1"]
    if yaml.safe_load(recipes_dir().joinpath(f"{name}.yaml").read_text(encoding="utf-8"))["data"]["dataset"] == "mnist":
        fit += ["--data.data_dir", request.getfixturevalue("mnist_dir")]
    assert cli(*fit, "--trainer.limit_val_batches", "0")[0] == 0
    with Path("lightning_logs/version_0/metrics.csv").open() as file:
        losses = [float(row["train/loss_step"]) for row in csv.DictReader(file) if row["train/loss_step"]]
    assert losses == pytest.approx(GOLDEN[name], rel=1e-3)  # other CPUs round differently, which Muon amplifies


@pytest.mark.slow
def test_the_quickstart_reaches_98_percent(cli: Cli) -> None:
    assert cli("fit", "--config", "quickstart")[0] == 0
    code, out, _ = cli("test")
    assert code == 0
    correct = int(out.partition("correct ")[2].split()[0])
    assert correct >= 0.98 * 360
    content = torch.load("lightning_logs/version_0/checkpoints/best.ckpt")
    assert content["mnist_lit"]["scores"]["val/acc"] >= 0.98
