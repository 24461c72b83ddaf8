"""Several processes train and count as one does. By subprocess: Lightning starts the command itself again."""

import contextlib
import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Cli = Callable[..., tuple[int, str, str]]

DDP = ["--trainer.accelerator", "cpu", "--trainer.strategy", "ddp", "--trainer.devices"]


def command(*args: str, cwd: str) -> str:
    """What `mnist-lit` printed, run in a folder made for it."""
    Path(cwd).mkdir()
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISTRIBUTED_DEBUG": "OFF"}
    program = [sys.executable, "-m", "mnist_lit", *args]
    run = subprocess.run(program, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=900)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("images  ") <= 1, "each process printed"
    return run.stdout


def column(run: str, name: str) -> list[float]:
    with Path(run, "lightning_logs/version_0/metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def pictures(run: str) -> list[str]:
    return list(EventAccumulator(f"{run}/lightning_logs/version_0").Reload().Tags()["images"])


def compare(cli: Cli, recipe: list[str], steps: int) -> None:
    """The same losses, step by step, and the same scores; another seed's losses are far away."""
    fit = ["fit", *recipe, "--trainer.max_epochs", "1", "--trainer.log_every_n_steps", "1", "--model.momentum", "0"]
    fit += ["--model.schedule", "constant", "--data.degrees", "15"]
    command(*fit, *DDP, "2", cwd="two")
    for run, options in (("one", []), ("control", ["--seed_everything", "1", "--trainer.limit_train_batches", "9"])):
        Path(run).mkdir()
        with contextlib.chdir(run):
            assert cli(*fit, "--trainer.accelerator", "cpu", *options)[0] == 0
    one, two, control = (column(run, "train/loss_step") for run in ("one", "two", "control"))
    assert len(one) == steps
    assert two == pytest.approx(one, rel=1e-5)
    assert control != pytest.approx(one[:9], rel=1e-4)
    for name in ("train/acc", "train/loss", "val/loss"):
        assert column("two", name) == pytest.approx(column("one", name), rel=1e-3, abs=1e-5)
    assert pictures("two") == pictures("one")


def test_two_processes_train_as_one_with_an_empty_shard_at_the_end(cli: Cli) -> None:
    # 1,257 images in steps of 157: the ninth has one image, and the first process none of it
    compare(
        cli,
        ["--data.dataset", "digits", "--data.val_size", "180", "--data.batch_size", "157", "--model.lr", "0.05"],
        steps=9,
    )


def test_three_processes_count_every_test_image_once(cli: Cli) -> None:
    recipe = ["--data.dataset", "digits", "--data.val_size", "96", "--data.batch_size", "51"]  # 360 = 7 · 51 + 3
    recipe += ["--trainer.limit_train_batches", "2", "--trainer.accelerator", "cpu"]
    Path("run").mkdir()
    with contextlib.chdir("run"):
        assert cli("fit", *recipe, "--trainer.max_epochs", "1")[0] == 0
    best = str(Path("run/lightning_logs/version_0/checkpoints/best.ckpt").resolve())
    alone = cli("test", "--ckpt_path", best, "--trainer.accelerator", "cpu")[1]
    rows = Path("run/lightning_logs/version_0/predictions.csv").read_text()
    three = command("test", "--ckpt_path", best, *DDP, "3", cwd="b")
    assert "images        360" in alone
    assert [line for line in alone.splitlines() if "/loss" not in line] == [
        line for line in three.splitlines() if "/loss" not in line
    ]
    again = Path("run/lightning_logs/version_0/predictions.csv").read_text()
    assert [row.split(",")[:3] for row in again.splitlines()] == [row.split(",")[:3] for row in rows.splitlines()]


@pytest.mark.slow
def test_two_processes_train_as_one_on_mnist(cli: Cli, mnist_dir: str) -> None:
    # at the tutorial's rate; at 0.05 training itself blows up rounding after some 50 steps, from 2e-6 to 1
    compare(cli, ["--config", "tutorial", "--data.data_dir", mnist_dir], steps=118)


@pytest.mark.slow
def test_two_processes_that_diverge_say_so_once() -> None:
    fit = ["fit", "--data.dataset", "digits", "--data.val_size", "96", "--data.batch_size", "64", "--model.lr", "1e30"]
    program = [sys.executable, "-m", "mnist_lit", *fit, *DDP, "2", "--trainer.accumulate_grad_batches", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISTRIBUTED_DEBUG": "OFF"}
    run = subprocess.run(program, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 2
    assert [line.partition(",")[0] for line in run.stderr.splitlines()] == ["mnist-lit: the loss is nan at step 10"]
