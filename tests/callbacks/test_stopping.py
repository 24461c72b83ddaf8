"""A fit that diverges stops with one line, and its bad weights are never saved."""

import contextlib
import csv
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch

from mnist_lit.callbacks.stopping import StopOnDivergence, StopOnSignal
from mnist_lit.data.loaders import Batch
from mnist_lit.errors import InputError, TrainingDiverged
from mnist_lit.module import MNISTModule
from plain import digits, trainer

Cli = Callable[..., tuple[int, str, str]]
ErrorLine = Callable[..., str]
CHECKPOINTS = Path("lightning_logs/version_0/checkpoints")

pytestmark = pytest.mark.usefixtures("small_calibration")


def after_step(number: int, spoil: Callable[[MNISTModule], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Change the weights right after an optimizer step, counted from 0."""
    optimizer_step = MNISTModule.optimizer_step

    def spoiling_step(self: MNISTModule, *args: Any, **kwargs: Any) -> None:
        optimizer_step(self, *args, **kwargs)
        if self.trainer.global_step == number:
            with torch.no_grad():
                spoil(self)

    monkeypatch.setattr(MNISTModule, "optimizer_step", spoiling_step)


def test_a_loss_that_becomes_nan_stops_a_fit_without_a_checkpoint(
    error_line: ErrorLine, tiny_fit: tuple[str, ...]
) -> None:
    line = error_line(*tiny_fit, "--trainer.max_epochs", "3", "--model.lr", "1e30")
    assert "the loss is nan at step " in line
    assert "lower model.lr, which is 1e+30 (no checkpoint was saved yet)" in line


def test_a_fit_that_diverges_later_keeps_its_last_good_checkpoint(
    cli: Cli, error_line: ErrorLine, tiny_fit: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step(
        2, lambda module: module.network.get_parameter("fc2.weight").mul_(1e38), monkeypatch
    )  # in the second epoch
    line = error_line(*tiny_fit, "--trainer.max_epochs", "9")
    assert f"({CHECKPOINTS}/best.ckpt was saved before)" in line
    for name in ("best", "last"):
        content = torch.load(CHECKPOINTS / f"{name}.ckpt")
        assert content["epoch"] == 0
        assert all(weights.isfinite().all() for weights in content["state_dict"].values())
    assert cli("test")[0] == 0


def stopping_fit(tiny_fit: tuple[str, ...]) -> tuple[str, ...]:
    """A fit that EarlyStopping ends after the second epoch."""
    stop = ("monitor=val/loss", "patience=1", "min_delta=9")
    options = [f"--trainer.callbacks.{option}" for option in stop]
    fit = (*tiny_fit, "--trainer.max_epochs", "6", "--trainer.callbacks+=EarlyStopping", *options)
    return (*fit, "--trainer.callbacks+=test_stopping.Interrupt", "--resume", "auto")


class Interrupt(L.Callback):
    """Send SIGTERM when the validation of this epoch starts, or once at the end of a fit."""

    epoch, at_end = -1, False

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            signal.raise_signal(signal.SIGTERM)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.at_end:
            type(self).at_end = False
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_at_the_end_of_a_fit_loses_no_scores(
    cli: Cli, tiny_fit: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint, from within the epoch, is older than the epoch's scores."""
    monkeypatch.setitem(sys.modules, "test_stopping", sys.modules[__name__])
    monkeypatch.setattr(Interrupt, "at_end", True)
    fit = (*tiny_fit, "--trainer.max_steps", "3", "--trainer.callbacks+=test_stopping.Interrupt", "--resume", "auto")
    assert cli(*fit)[0] == 143
    before = CHECKPOINTS.with_name("metrics.csv").read_text()
    code, out, _ = cli(*fit)
    assert (code, "is finished" in out) == (0, True)
    assert CHECKPOINTS.with_name("metrics.csv").read_text() == before
    assert [row["train/acc"] != "" for row in csv.DictReader(before.splitlines())].count(True) == 2


@pytest.mark.parametrize("event", ["a kill before the mark", "SIGTERM in the last validation"])
def test_a_run_that_has_decided_to_stop_does_not_train_on(
    event: str, cli: Cli, tiny_fit: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "test_stopping", sys.modules[__name__])
    fit = stopping_fit(tiny_fit)
    if event.startswith("SIGTERM"):
        monkeypatch.setattr(Interrupt, "epoch", 1)
        code, _, err = cli(*fit)
        assert code == 143
        assert err.endswith(
            "SIGTERM at step 4, the last one; the same command with --resume auto calibrates the best checkpoint\n"
        )
    else:
        assert cli(*fit)[0] == 0
        CHECKPOINTS.with_name("finished").unlink()
    before = CHECKPOINTS.joinpath("last.ckpt").read_bytes()
    code, out, _ = cli(*fit)
    assert (code, "is finished" in out) == (0, True)
    assert CHECKPOINTS.joinpath("last.ckpt").read_bytes() == before
    assert CHECKPOINTS.with_name("finished").read_text().startswith("2\n")


def test_validation_catches_exploded_weights_before_they_are_saved(
    error_line: ErrorLine, tiny_fit: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(module: MNISTModule) -> None:
        for weights in module.network.parameters():
            weights.mul_(1e9)

    after_step(3, explode, monkeypatch)  # the second epoch's last step: no training loss sees these weights
    assert "val/loss is nan at step 4, in epoch 2" in error_line(*tiny_fit, "--trainer.max_epochs", "2")
    assert torch.load(CHECKPOINTS / "last.ckpt")["global_step"] == 2


def test_weights_that_are_not_finite_are_never_saved(
    error_line: ErrorLine, tiny_fit: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step(3, lambda module: module.network.get_parameter("fc2.bias")[3].fill_(torch.nan), monkeypatch)
    line = error_line(*tiny_fit, "--trainer.max_epochs", "2", "--data.val_size", "0")
    assert "weights are not finite at step 4, in epoch 2" in line
    for path in CHECKPOINTS.iterdir():
        content = torch.load(path)
        assert content["global_step"] == 2
        assert all(weights.isfinite().all() for weights in content["state_dict"].values())


class WithMask(torch.nn.Sequential):
    """With a mask of minus infinity, as for attention."""

    def __init__(self, *, persistent: bool) -> None:
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(784, 10))
        self.register_buffer("mask", torch.full((2, 2), -torch.inf), persistent=persistent)


def test_a_network_whose_checkpoints_could_not_be_loaded_is_refused_before_training() -> None:
    plain = trainer(callbacks=[StopOnDivergence()], limit_train_batches=1)
    with pytest.raises(InputError, match=r"model\.network\.mask is not finite; register a buffer .* persistent=False"):
        plain.fit(MNISTModule(network=WithMask(persistent=True)), digits())
    plain.fit(MNISTModule(network=WithMask(persistent=False)), digits())
    assert plain.global_step == 1


class Own(L.LightningModule):
    """Somebody's own module, which logs no validation loss and has no hyperparameters."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.layer, self.rate = torch.nn.Linear(784, 10), lr

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.layer(batch.inputs.flatten(1)), batch.labels)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


class OwnManual(Own):
    """The same with manual optimization, whose steps return no loss."""

    automatic_optimization = False

    def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


def test_a_module_of_ones_own_can_be_watched() -> None:
    few: dict[str, Any] = {"limit_train_batches": 4, "limit_val_batches": 1}
    for module in (Own(lr=0.1), OwnManual(lr=0.1)):
        plain = trainer(callbacks=[StopOnDivergence()], **few)
        plain.fit(module, digits())
        assert plain.global_step == 4
    with pytest.raises(TrainingDiverged, match=r"the loss is nan at step \d, in epoch 1; lower the learning rate \(no"):
        trainer(callbacks=[StopOnDivergence()], **few).fit(Own(lr=1e38), digits())


def test_a_signal_to_one_of_several_processes_stops_all() -> None:
    other = torch.tensor(float(signal.SIGTERM))
    reduce = lambda own, reduce_op: getattr(torch.stack([own, other]), reduce_op)()  # noqa: E731
    several: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device="cpu", reduce=reduce))
    assert StopOnSignal()._agreed(several) == signal.SIGTERM


@pytest.mark.parametrize(("step", "every", "stops"), [(4, 2, True), (3, 2, False), (0, 2, False), (4, 0, False)])
def test_several_processes_check_the_loss_only_when_it_is_logged(step: int, every: int, *, stops: bool) -> None:
    module: Any = SimpleNamespace(device=torch.device("cpu"), latest_loss=torch.tensor(torch.nan), hparams={})
    several: Any = SimpleNamespace(world_size=2, log_every_n_steps=every, global_step=step, current_epoch=0)
    with pytest.raises(TrainingDiverged) if stops else contextlib.nullcontext():
        StopOnDivergence().on_train_batch_end(several, module, None)
