"""A fit says how far it is: a bar on a terminal, otherwise a line per epoch and at least every 30 seconds."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

import plain
from mnist_lit.callbacks.progress import FitBar, FitLines, progress_display
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.module import MNISTModule

Cli = Callable[..., tuple[int, str, str]]


def fit(*callbacks: pl.Callback, model: MNISTModule | None = None, **options: Any) -> None:
    """Five steps of 32 images per epoch, and a validation of 64 images."""
    data = MNISTDataModule(dataset="digits", val_size=1277, batch_size=32)
    options = {"max_epochs": 2, "num_sanity_val_steps": 0, "limit_val_batches": 2, **options}
    plain.trainer(**options, callbacks=list(callbacks)).fit(model or MNISTModule(), datamodule=data)


def test_a_terminal_gets_a_bar_and_anything_else_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        for enabled in (None, True, False):
            shown, added = progress_display(enabled, [pl.Callback()])
            bar = terminal if enabled is None else enabled
            assert shown == bar
            assert [*map(type, added)] == ([] if enabled is False else [FitBar if bar else FitLines])


def test_a_bar_of_your_own_replaces_ours() -> None:
    assert progress_display(None, [TQDMProgressBar()]) == (True, [])
    assert progress_display(False, [TQDMProgressBar()]) == (False, [])


def test_each_epoch_ends_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    fit(FitLines(), log_every_n_steps=1)
    first, last = capsys.readouterr().out.splitlines()
    number = r"\d+\.\d\d"
    shared = rf"loss {number}\d\d  val/acc [\d.]+ %  [\d,]+ images/s  \d+:\d\d left"
    assert re.fullmatch(rf"epoch 1/2  step 5/10  {shared}", first)
    assert re.fullmatch(rf"epoch 2/2  step 10/10  {shared}", last)
    assert last.endswith("  0:00 left")


def test_a_loss_is_shown_once_one_was_logged(capsys: pytest.CaptureFixture[str]) -> None:
    fit(FitLines(), log_every_n_steps=7)  # first in the second epoch
    first, last = capsys.readouterr().out.splitlines()
    assert ("  loss " in first, "  loss " in last) == (False, True)


def test_a_line_follows_after_30_seconds_within_an_epoch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("mnist_lit.callbacks.progress.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    lines = FitLines()

    class Slow(pl.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            clock[0] += 16

    fit(Slow(), lines, max_epochs=1)
    printed = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in printed] == ["step 2/5", "step 4/5", "step 5/5"]
    assert [line[-2:] for line in printed] == [["2 images/s", left] for left in ("0:48 left", "0:16 left", "0:00 left")]


def test_a_run_without_a_known_end_shows_no_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.global_step >= 3

    fit(Stop(), FitLines(), max_epochs=-1, model=MNISTModule(schedule="constant"))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch 1  step 3  ")
    assert " left" not in line


@pytest.mark.parametrize(("steps", "totals"), [(-1, [5, 5]), (7, [5, 2]), (3, [3])])
def test_the_bar_counts_the_batches_that_will_be_run(
    steps: int, totals: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    bar, seen = FitBar(), []

    class Watch(pl.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            seen.append(bar.total_train_batches)

    fit(bar, Watch(), max_steps=steps, enable_progress_bar=True)
    assert seen == [total for total in totals for _ in range(total)]
    assert set(bar.get_metrics(bar.trainer, bar.trainer.lightning_module)) <= {"loss", "val/acc"}


def test_the_bar_shows_the_newest_scores_under_short_names() -> None:
    bar, scores = FitBar(), {"train/loss_step": 0.5, "val/acc": 0.25, "val/loss": 2.0, "v_num": 3}
    trainer: Any = SimpleNamespace(progress_bar_metrics=scores)
    assert bar.get_metrics(trainer, MNISTModule()) == {"loss": 0.5, "val/acc": 0.25}


def test_a_resume_prints_no_line_for_the_epoch_that_was_finished(cli: Cli, tiny_run: Path) -> None:
    code, out, _ = cli("fit", "--ckpt_path", f"{tiny_run}/checkpoints/best.ckpt", "--trainer.max_epochs", "2")
    assert code == 0
    assert re.findall(r"^epoch (\S+)", out, re.MULTILINE) == ["2/2"]
    assert "nan" not in out


def test_a_step_beyond_the_expected_last_one_shows_no_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = SimpleNamespace(global_step=2, estimated_stepping_batches=2, callback_metrics={}, current_epoch=1)
    trainer.max_epochs, trainer.is_global_zero, lines = 2, True, FitLines()
    lines.on_train_start(trainer)
    trainer.global_step = 3
    lines.on_train_epoch_end(trainer, MNISTModule())
    assert capsys.readouterr().out == "epoch 2/2  step 3  0 images/s\n"


@pytest.mark.slow  # others resume, too
def test_a_resume_with_shorter_epochs_shows_no_negative_time(cli: Cli, tiny_run: Path) -> None:
    options = ("--trainer.max_epochs", "2", "--trainer.limit_train_batches", "1")
    code, out, _ = cli("fit", "--ckpt_path", f"{tiny_run}/checkpoints/best.ckpt", *options)
    assert code == 0
    assert re.findall(r"^epoch 2/2  step (\S+)", out, re.MULTILINE) == ["3"]  # of two
    assert " left" not in out
