"""TensorBoard's HPARAMS table of runs, the test scores beside a run's curves, and a way to add images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.plugins.hparams import summary_v2 as hparams
from torch.utils.tensorboard import SummaryWriter

from mnist_lit.runs.folders import run_name
from mnist_lit.runs.start import RunStart


class TensorBoardHParams(Callback):
    """The HPARAMS table: what each run was trained with, and how good it became."""

    METRICS = ("best/val_acc", "val/loss", "train/acc", "train/images_per_second")

    def __init__(self, start: RunStart, settings: Mapping[str, int | float | str]) -> None:
        self.start, self.settings = start, dict(settings)

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Write the settings, and which curves are scores; `test` adds its own later."""
        if self.start.continues and trainer.global_step:
            return
        assert self.start.run
        metrics = [hparams.Metric(name) for name in self.METRICS]
        metrics.append(hparams.Metric("test/acc", group="test"))  # the subfolder of `TensorBoardTestScores`
        names = [hparams.HParam(name) for name in self.settings]
        for writer in _writers(trainer):
            # Private in torch 2.15: SummaryWriter.add_hparams would open a second events file.
            events = writer._get_file_writer()  # type: ignore[no-untyped-call]
            events.add_summary(hparams.hparams_config_pb(names, metrics))
            events.add_summary(hparams.hparams_pb(self.settings, trial_id=run_name(self.start.run)))


class TensorBoardTestScores(Callback):
    """The test scores, in the run's subfolder `test`: its fit may still be writing the run's own events file."""

    def __init__(self, run: Path, step: int) -> None:
        self.run, self.step = run, step

    def on_test_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.is_global_zero:
            with SummaryWriter(str(self.run / "test")) as writer:
                for name in ("test/acc", "test/loss"):
                    writer.add_scalar(name, trainer.callback_metrics[name], self.step)


def add_image(trainer: Trainer, name: str, image: Any) -> None:
    """Add an image, uint8 (H, W, 3), to every TensorBoard logger at the current step."""
    for writer in _writers(trainer):
        writer.add_image(name, image, trainer.global_step, dataformats="HWC")


def _writers(trainer: Trainer) -> list[SummaryWriter]:
    """TensorBoard's writers on rank 0; other ranks have none."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    return [logger.experiment for logger in loggers if isinstance(logger, TensorBoardLogger)]
