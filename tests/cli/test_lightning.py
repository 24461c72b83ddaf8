"""`fit`, `validate` and `test` from the command line: run folders, options of the Trainer, evaluation."""

import csv
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from mnist_lit.data.augmentation import RandomAffine
from mnist_lit.data.loaders import Batch
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.module import MNISTModule
from mnist_lit.runs.folders import all_runs, best_checkpoint
from mnist_lit.system.console import percent

Cli = Callable[..., tuple[int, str, str]]
ErrorLine = Callable[..., str]
RUN = Path("lightning_logs/version_0")

pytestmark = pytest.mark.usefixtures("small_calibration")


def weights(number: int) -> dict[str, Tensor]:
    """The last weights of lightning_logs/version_N."""
    state: dict[str, Tensor] = torch.load(f"lightning_logs/version_{number}/checkpoints/last.ckpt")["state_dict"]
    return state


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_fit_leaves_a_complete_run_folder(tiny_run: Path) -> None:
    names = {path.relative_to(tiny_run).as_posix() for path in tiny_run.rglob("*") if path.is_file()}
    assert len({name for name in names if name.startswith("events.out.tfevents")}) == 1
    assert {"config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= names
    config = yaml.safe_load(tiny_run.joinpath("config.yaml").read_text())
    assert config["model"]["lr"] == 0.03
    assert config["trainer"]["max_epochs"] == 1
    assert config["data"]["batch_size"] == 8
    with tiny_run.joinpath("metrics.csv").open() as file:
        columns = csv.DictReader(file).fieldnames or []
    assert {"train/acc", "train/loss", "val/acc", "val/loss"} <= set(columns)


def test_the_same_command_twice_gives_the_same_weights(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    for options in ([], [], ["--seed_everything", "1"]):
        assert cli(*tiny_fit, "--trainer.max_epochs", "1", *options)[0] == 0
    assert equal(weights(0), weights(1))
    assert not equal(weights(0), weights(2))


def test_test_scores_the_newest_runs_best_checkpoint_with_its_data(cli: Cli, tiny_run: Path) -> None:
    code, out, err = cli("test")
    assert (code, err) == (0, "")
    assert out.startswith(f"test: {tiny_run}/checkpoints/best.ckpt\n")
    assert "images        360" in out
    with tiny_run.joinpath("predictions.csv").open() as file:
        right = sum(row["label"] == row["predicted"] for row in csv.DictReader(file))
    assert f"correct       {right}\n" in out
    assert "true  recall  most often confused with" in out


def test_validate_repeats_the_runs_score(cli: Cli, tiny_run: Path) -> None:
    scores = torch.load(tiny_run / "checkpoints/best.ckpt")["mnist_lit"]["scores"]
    code, out, _ = cli("validate")
    assert code == 0
    assert f"val/acc       {percent(scores['val/acc'], 64)}" in out
    assert "images        64" in out
    assert not tiny_run.joinpath("predictions.csv").exists()


def test_validate_without_validation_images_is_refused(cli: Cli, error_line: ErrorLine) -> None:
    fit = ("fit", "--data.dataset", "digits", "--data.val_size", "0", "--data.batch_size", "64")
    code, out, err = cli(*fit, "--trainer.max_steps", "1")
    assert (code, err) == (0, "")
    assert "checkpoints/last.ckpt" in out  # the last counts as the best
    assert "best val/acc  none: no validation" in out
    code, out, _ = cli("test")
    assert code == 0
    assert "last.ckpt" in out
    assert "no images to validate: data.val_size is 0" in error_line("validate")


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (["--trainer.max_steps", "3"], 3),
        (["--trainer.max_steps", "11", "--trainer.limit_train_batches", "1"], 11),  # more than the default ten epochs
        (["--trainer.num_sanity_val_steps", "1", "--trainer.max_epochs", "1"], 2),
        (["--trainer.log_every_n_steps", "0", "--trainer.max_epochs", "1"], 2),
        (["--trainer.precision", "bf16-mixed", "--trainer.max_epochs", "1"], 2),
        pytest.param(
            ["--trainer.precision", "bf16-true", "--trainer.max_epochs", "1", "--model.ema_decay", "0"],
            2,
            marks=pytest.mark.slow,
        ),
        (["--trainer.precision", "64-true", "--trainer.max_epochs", "1"], 2),
        (["--trainer.limit_train_batches", "1", "--trainer.max_epochs", "2"], 2),
        (["--trainer.limit_val_batches", "0", "--trainer.max_epochs", "1"], 2),
        (["--trainer.limit_val_batches", "1", "--trainer.max_epochs", "1"], 2),
        (["--trainer.overfit_batches", "1", "--trainer.max_epochs", "3"], 3),
        (["--trainer.accumulate_grad_batches", "2", "--trainer.max_epochs", "3"], 3),
        (["--trainer.max_time", "00:00:00:01", "--trainer.max_epochs", "10000"], None),
        (["--trainer.check_val_every_n_epoch", "5", "--trainer.max_epochs", "1"], 2),
        (["--trainer.val_check_interval", "0.5", "--trainer.max_epochs", "1"], 2),
        (["--trainer.logger", "false", "--trainer.max_epochs", "1"], 2),
        (["--trainer.enable_checkpointing", "false", "--trainer.max_epochs", "1"], 2),
    ],
    ids=lambda value: value[0].removeprefix("--trainer.") + "=" + value[1] if isinstance(value, list) else "",
)
def test_trainer_options_work(cli: Cli, tiny_fit: tuple[str, ...], options: list[str], steps: int | None) -> None:
    code, out, err = cli(*tiny_fit, *options)
    assert (code, err) == (0, "")
    assert steps is None or f"({steps} steps)" in out
    assert (best_checkpoint(RUN) is None) == ("--trainer.enable_checkpointing" in options)
    assert RUN.joinpath("metrics.csv").exists() == ("--trainer.logger" not in options)
    assert RUN.joinpath("config.yaml").exists()
    if best_checkpoint(RUN):
        assert cli("test", "--trainer.limit_test_batches", "1")[0] == 0


def test_a_complete_fit_without_checkpoints_is_finished(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    fit = (*tiny_fit, "--trainer.enable_checkpointing", "false", "--trainer.max_epochs", "1", "--resume", "auto")
    assert cli(*fit)[0] == 0
    (row,) = (line for line in cli("runs")[1].splitlines() if line.startswith("version_0"))
    assert "unfinished" not in row
    assert cli(*fit) == (0, f"fit: {RUN} is finished; it has no checkpoint\n", "")


def test_overfit_batches_repeats_the_same_images_every_epoch(
    cli: Cli, tiny_fit: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    step = MNISTModule.training_step

    def recording_step(self: MNISTModule, batch: Batch, batch_idx: int) -> Tensor:
        seen.append(batch.indices.tolist())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(MNISTModule, "training_step", recording_step)
    assert cli(*tiny_fit, "--trainer.overfit_batches", "1", "--trainer.max_epochs", "3")[0] == 0
    assert seen[0] == seen[1] == seen[2]


def test_a_fast_dev_run_leaves_no_files(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    monitor = ("--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "train/loss_step")
    code, out, err = cli(*tiny_fit, "--trainer.fast_dev_run", "true", *monitor)
    assert (code, err) == (0, "")
    assert "checkpoint    none" in out
    assert not list(Path.cwd().iterdir())


def test_runs_are_created_in_default_root_dir(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    code, out, _ = cli(*tiny_fit, "--trainer.max_epochs", "1", "--trainer.default_root_dir", "my runs")
    assert code == 0
    best = Path("my runs/lightning_logs/version_0/checkpoints/best.ckpt")
    assert best.is_file()
    assert not Path("lightning_logs").exists()
    command = shlex.split(out.partition("next ")[2].splitlines()[0])  # the suggested command quotes the space
    assert command == ["mnist-lit", "test", str(best)]
    assert cli(*command[1:])[0] == 0
    code, out, _ = cli("test", "--trainer.default_root_dir", "my runs")
    assert code == 0
    assert out.startswith(f"test: {best}\n")


def test_a_run_folder_that_cannot_be_created_is_named(error_line: ErrorLine, tiny_fit: tuple[str, ...]) -> None:
    Path("lightning_logs").write_text("a file")
    assert "a run folder in lightning_logs" in error_line(*tiny_fit, "--trainer.max_epochs", "1")


@pytest.mark.slow
def test_annealed_augmentation_ends_with_the_run(
    cli: Cli, tiny_fit: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    fractions: list[float] = []
    warp = RandomAffine.__call__

    def recording(self: RandomAffine, images: torch.Tensor, draws: torch.Tensor, *fraction: float) -> torch.Tensor:
        fractions.extend(fraction)  # the calibration's warp has none
        return warp(self, images, draws, *fraction)

    monkeypatch.setattr(RandomAffine, "__call__", recording)
    fit = (*tiny_fit, "--data.degrees", "15", "--data.anneal", "0.2")
    assert cli(*fit, "--trainer.limit_train_batches", "1")[0] == 0  # ten epochs by default
    assert fractions == pytest.approx([1] * 5 + [0.84, 0.68, 0.52, 0.36, 0.2])
    fractions.clear()
    assert cli(*fit, "--trainer.max_epochs", "2")[0] == 0
    assert fractions == pytest.approx([1, 1, 0.2, 0.2])
    fractions.clear()
    last = "lightning_logs/version_1/checkpoints/last.ckpt"
    assert cli(*fit, "--ckpt_path", last, "--trainer.max_epochs", "4")[0] == 0
    assert fractions == pytest.approx([0.6, 0.6, 0.2, 0.2])


def test_a_finished_run_has_nothing_left_to_train(error_line: ErrorLine, tiny_run: Path) -> None:
    last = ("--ckpt_path", str(tiny_run / "checkpoints/last.ckpt"))
    assert error_line("fit", *last).endswith("set trainer.max_epochs higher\n")
    assert error_line("fit", *last, "--trainer.max_steps", "1").endswith("set trainer.max_steps higher\n")
    assert all_runs(Path("lightning_logs")) == [RUN]


@pytest.mark.parametrize("entry", ["loops", "optimizer_states", "train_scores", "best", "state_dict"])
def test_a_checkpoint_with_a_missing_or_damaged_entry_gives_one_line(cli: Cli, tiny_run: Path, entry: str) -> None:
    intact = torch.load(tiny_run / "checkpoints/last.ckpt")
    missing = {name: value for name, value in intact.items() if name != entry}
    for content in (missing, {**intact, entry: {"odd": 3}}):
        torch.save(content, "odd.ckpt")
        code, _, err = cli("fit", "--ckpt_path", "odd.ckpt", "--trainer.max_epochs", "2")
        assert (code, err.count("\n")) == (2, 1) or (entry == "best" and content is missing and code == 0), err
    assert len(all_runs(Path("lightning_logs"))) == (2 if entry == "best" else 1)


def test_the_data_is_prepared_for_the_trainers_device(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []
    train_dataloader = MNISTDataModule.train_dataloader

    def recording_loader(data: MNISTDataModule) -> Any:
        devices.append(train_dataloader(data).images.device.type)
        raise InputError("stop here")

    monkeypatch.setattr(MNISTDataModule, "train_dataloader", recording_loader)
    monkeypatch.setattr(MNISTModule, "to", lambda module, *_: module)
    monkeypatch.setattr("lightning.pytorch.accelerators.CPUAccelerator.setup_device", lambda *_: None)
    monkeypatch.setattr("lightning.pytorch.strategies.SingleDeviceStrategy.root_device", torch.device("meta"))
    assert cli("fit", "--config", "quickstart")[0] == 2
    assert devices == ["meta"]


@pytest.mark.slow
def test_a_one_for_lightning_is_an_int_whatever_was_imported_before(empty_folder: Path) -> None:
    script = (
        "from typing import Union; import lightning.pytorch as L\n"
        "types = L.Trainer.__init__.__annotations__\n"
        "types['limit_train_batches'] = Union[float, int, None]\n"
        "from mnist_lit.cli.main import main\n"
        "main(['fit', '--config', 'quickstart', '--trainer.limit_train_batches', '1', '--print_config'])\n"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "limit_train_batches: 1\n" in printed
