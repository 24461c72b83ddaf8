"""Training on one NVIDIA GPU: every recipe, exact resume, and the captured step next to the eager one.

The other tests hide GPUs; `make test-gpu` shows the first one to these.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.recipes import recipe_names
from mnist_lit.runs.results import read_predictions

Cli = Callable[..., tuple[int, str, str]]
RUN = Path("lightning_logs/version_0")
DIGITS = ("--data.dataset", "digits", "--data.val_size", "180", "--data.batch_size", "64", "--model.lr", "0.02")
CPU = ("--trainer.accelerator", "cpu")
EAGER, GRAPH = ("--model.cuda_graph", "false"), ("--model.cuda_graph", "true")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU, or hidden: `make test-gpu` shows it"),
    pytest.mark.usefixtures("small_calibration"),
]


def losses(run: Path = RUN) -> list[float]:
    with run.joinpath("metrics.csv").open() as file:
        return [float(row["train/loss_step"]) for row in csv.DictReader(file) if row.get("train/loss_step")]


@pytest.mark.parametrize("graph", [EAGER, GRAPH], ids=["eager", "graph"])
def test_fit_and_test_reach_the_cpus_accuracy(cli: Cli, graph: tuple[str, ...], captured_steps: list[int]) -> None:
    code, out, err = cli("fit", "--config", "quickstart", *graph)
    assert (code, err) == (0, ""), out
    assert bool(captured_steps) == (graph == GRAPH)
    content = load_checkpoint(RUN / "checkpoints/last.ckpt")
    assert {"gpu", "cuda", "float32 products", "deterministic"} <= {*content["mnist_lit"]["versions"]}
    assert cli("test")[0] == 0
    test = read_predictions(RUN)
    assert test
    assert test.acc > 0.98


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("graph", [EAGER, GRAPH], ids=["eager", "graph"])
@pytest.mark.parametrize("recipe", ["quickstart", "fast", "best"])
def test_a_resumed_run_ends_with_the_same_bits(cli: Cli, recipe: str, graph: tuple[str, ...], precision: str) -> None:
    data = () if recipe == "quickstart" else DIGITS[:4]
    short = ("--trainer.max_epochs", "2", "--trainer.precision", precision, "--figures", "false")
    code, out, err = cli("verify-resume", "--kills", "2", "--config", recipe, *data, *graph, *short)
    assert (code, err) == (0, ""), out
    assert "equal" in out


@pytest.mark.parametrize(
    "model",
    [
        (),
        ("--model.optimizer", "adamw", "--model.lr", "0.002"),
        ("--model.optimizer", "muon", "--model.ema_decay", "0.98", "--data.degrees", "15", "--data.anneal", "0.2"),
        ("--model.sam_rho", "0.05", "--model.dropout", "0.3"),
    ],
    ids=["sgd", "adamw", "muon", "sam"],
)
def test_the_captured_step_follows_the_eager_one_and_the_cpus(
    cli: Cli, model: tuple[str, ...], captured_steps: list[int]
) -> None:
    fit = (
        "fit",
        *DIGITS,
        *model,
        "--trainer.max_epochs",
        "1",
        "--trainer.log_every_n_steps",
        "1",
        "--figures",
        "false",
    )
    for options in (EAGER, (), CPU, (*CPU, "--seed_everything", "1")):
        assert cli(*fit, *options)[0] == 0
    assert len(captured_steps) == 19  # 1,257 images: 19 full batches, and one that is smaller
    eager, graph, cpu, control = (torch.tensor(losses(RUN.with_name(f"version_{n}"))[:8]) for n in range(4))
    differs = float((control - cpu).abs().max())
    assert float((graph - eager).abs().max()) < differs / 4
    assert float((eager - cpu).abs().max()) < differs / 4  # TensorFloat-32


@pytest.mark.parametrize("graph", [EAGER, GRAPH], ids=["eager", "graph"])
@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_takes_some_steps(cli: Cli, recipe: str, graph: tuple[str, ...]) -> None:
    few = ("--trainer.max_steps", "6", "--trainer.log_every_n_steps", "1", "--trainer.limit_val_batches", "1")
    code, out, _ = cli("fit", "--config", recipe, *DIGITS[:4], "--data.batch_size", "64", *graph, *few)
    assert code == 0, out
    assert len(losses()) == 6


def test_every_loss_that_is_due_is_logged(cli: Cli) -> None:
    fit = ("fit", *DIGITS, *GRAPH, "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "4")
    assert cli(*fit)[0] == 0
    assert len(losses()) == 40 // 4


def test_a_diverged_run_is_noticed_when_its_loss_arrives(cli: Cli) -> None:
    often = ("--trainer.log_every_n_steps", "2", "--trainer.max_epochs", "3")
    code, _, err = cli("fit", *DIGITS[:-1], "1e30", *GRAPH, *often)
    assert code == 2
    assert "the loss is" in err  # not the weights, which are looked at when they are saved
    assert "lower model.lr" in err


def test_seeds_train_side_by_side(cli: Cli) -> None:
    code, out, _ = cli("fit", *DIGITS, *GRAPH, "--trainer.max_epochs", "2", "--seeds", "3", "--seeds_at_once", "3")
    assert code == 0, out
    assert "3 seeds, 3 at a time" in out
    assert len([*RUN.glob("seed_*/checkpoints/best.ckpt")]) == 3
