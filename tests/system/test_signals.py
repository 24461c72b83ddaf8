"""SIGTERM and Ctrl-C save the run and end it, and it resumes exactly."""

import functools
import os
import shlex
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from few_digits import FEW_DIGITS
from mnist_lit.cli.main import main
from mnist_lit.errors import StoppedBySignal
from mnist_lit.experiments.verify_resume import curve_difference, state_difference
from mnist_lit.module import MNISTModule
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.system.signals import DeferredSignals, raise_on_signal

Cli = Callable[..., tuple[int, str, str]]
RUN = Path("lightning_logs/version_0")
FIT = ("fit", *FEW_DIGITS)  # 5 steps an epoch
LONG_FIT = (*FIT, "--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "1", "--model.ema_decay", "0.9")


pytestmark = pytest.mark.usefixtures("small_calibration")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of LONG_FIT with a `val_check_interval`, trained once."""

    @functools.cache
    def train(interval: str) -> Path:
        folder = tmp_path_factory.mktemp("uninterrupted")
        options = ("--trainer.val_check_interval", interval, "--trainer.default_root_dir", str(folder))
        assert main([*LONG_FIT, *options]) == 0
        return folder / RUN

    return train


def test_both_signals_raise_inside_and_the_handlers_are_restored() -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)]
    for signum in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(StoppedBySignal, match=signum.name), raise_on_signal():
            signal.raise_signal(signum)
    assert [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)] == before


def test_another_signal_does_not_interrupt_the_cleaning_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with raise_on_signal():
        with pytest.raises(StoppedBySignal, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr("mnist_lit.system.signals.PATIENCE", 0)
        with pytest.raises(StoppedBySignal, match="SIGINT"):
            signal.raise_signal(signal.SIGINT)


def test_a_deferred_signal_raises_only_when_ctrl_c_is_pressed_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    deferred = DeferredSignals()
    with raise_on_signal():
        deferred.install()
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        assert deferred.signum == signal.SIGTERM
        monkeypatch.setattr("mnist_lit.system.signals.PATIENCE", 0)
        with pytest.raises(StoppedBySignal, match="SIGINT"):
            signal.raise_signal(signal.SIGINT)


def test_sigusr1_is_deferred_too_unless_the_program_handles_it() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        for handler in (signal.SIG_IGN, signal.SIG_DFL):
            signal.signal(signal.SIGUSR1, handler)
            deferred = DeferredSignals()
            with raise_on_signal():
                deferred.install()
                if handler == signal.SIG_DFL:
                    assert signal.getsignal(signal.SIGUSR1) != handler  # or the next line would end the tests
                signal.raise_signal(signal.SIGUSR1)
            assert deferred.signum == (signal.SIGUSR1 if handler == signal.SIG_DFL else 0)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_sigusr1_raises_where_sigterm_does_unless_the_program_handles_it() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        with raise_on_signal():
            assert signal.getsignal(signal.SIGUSR1) != signal.SIG_DFL  # or the next line would end the tests
            with pytest.raises(StoppedBySignal, match="SIGUSR1"):
                signal.raise_signal(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_other_threads_do_not_touch_the_handlers() -> None:
    def enter() -> None:
        with raise_on_signal():
            pass

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    ("signum", "at", "saved", "interval"),
    [
        pytest.param(signal.SIGTERM, 7, 7, "1.0", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 9, 10, "1.0", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 7, 7, "1", marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, 7, 7, "1.0", marks=pytest.mark.slow),
    ],
    ids=["within_an_epoch", "at_an_epochs_end", "before_a_validation", "from_slurm"],
)
def test_an_interrupted_fit_saves_and_resumes_exactly(
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: Callable[[str], Path],
    signum: signal.Signals,
    at: int,
    saved: int,
    interval: str,
) -> None:
    whole = uninterrupted(interval)
    fit = (*LONG_FIT, "--trainer.val_check_interval", interval)
    step = MNISTModule.optimizer_step

    def interrupted(self: MNISTModule, *args: Any, **kwargs: Any) -> None:
        step(self, *args, **kwargs)
        if self.trainer.global_step == at - 1 + (saved > at):
            os.kill(os.getpid(), signum)

    with monkeypatch.context() as patch:
        patch.setattr(MNISTModule, "optimizer_step", interrupted)
        code, _, err = cli(*fit)
    assert (code, err.count("\n")) == (128 + signum, 1)
    assert f"stopped by {signum.name} at step {saved}; saved {RUN}/checkpoints/last.ckpt" in err
    assert load_checkpoint(RUN / "checkpoints/last.ckpt")["global_step"] == saved
    code, _, err = cli(*fit, "--resume", "auto")
    assert (code, err) == (0, "")
    contents = (load_checkpoint(run / "checkpoints/last.ckpt") for run in (whole, RUN))
    assert state_difference(*contents) is None
    assert curve_difference(whole, RUN) is None


def test_an_interrupted_fit_with_a_ckpt_path_prints_the_command_that_resumes_it(
    cli: Cli, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = MNISTModule.optimizer_step

    def interrupted(self: MNISTModule, *args: Any, **kwargs: Any) -> None:
        step(self, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(MNISTModule, "optimizer_step", interrupted)
        _, _, err = cli("fit", "--ckpt_path", f"{tiny_run}/checkpoints/last.ckpt", "--trainer.max_epochs", "2")
    assert "at step 3; saved lightning_logs/version_1/checkpoints/last.ckpt; `mnist-lit fit --config " in err
    code, out, _ = cli(*shlex.split(err.split("`")[1])[1:])
    assert (code, "(4 steps)" in out) == (0, True)
    assert load_checkpoint(Path("lightning_logs/version_1/checkpoints/last.ckpt"))["global_step"] == 4


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_before_the_first_step_nothing_is_kept(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    monkeypatch.setattr("mnist_lit.datamodule.MNISTDataModule.prepare_data", lambda self: signal.raise_signal(signum))
    assert cli(*FIT) == (128 + signum, "", f"mnist-lit: stopped by {signum.name}\n")
    assert not list(Path.cwd().iterdir())
