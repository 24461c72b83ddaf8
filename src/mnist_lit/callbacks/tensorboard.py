"""TensorBoard's overview of a run, the test scores beside a run's curves, and a way to add images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.plugins.hparams import summary_v2 as hparams
from torch.utils.tensorboard import SummaryWriter

from mnist_lit.callbacks.predictions import WritesFile
from mnist_lit.runs.folders import recorded_command, run_name
from mnist_lit.runs.start import RunStart


class TensorBoardOverview(Callback):
    """What TensorBoard shows of a run before its first step: the recipe as text, its settings in the HPARAMS table,
    and which charts belong together."""

    # TensorBoard sorts the table's columns by name. Leading spaces come first, and its page does not show them.
    FIRST = ("optimizer", "lr", "batch_size", "max_epochs", "seed")
    METRICS: Mapping[str, str] = {  # what the table calls each score
        "best/val_acc": "best val/acc",
        "val/loss": "val/loss",
        "train/acc": "train/acc",
        "train/images_per_second": "images/s",
    }
    # Other pages sort groups of charts by name; CUSTOM SCALARS keeps this order. Each chart has a regular expression.
    CHARTS: Mapping[str, Mapping[str, str]] = {
        "val": {"acc": "val/acc", "loss": "val/loss", "ece": "val/ece", "accuracy per class": "val/class_acc/.*"},
        "train": {"acc": "train/acc", "loss": "train/loss", "loss of a step": "train/loss_step"},
        "val and train": {"acc": "(val|train)/acc", "loss": "(val|train)/loss"},
        "learning rate and speed": {"lr": "train/lr", "images per second": "train/images_per_second"},
    }

    def __init__(self, start: RunStart, config: str, settings: Mapping[str, int | float | str | None]) -> None:
        """config: the run's whole configuration as YAML. settings: the table's; None leaves a cell empty."""
        self.start, self.config, self.settings = start, config, dict(settings)

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Write it all unless the run is resumed; `test` adds its own scores later."""
        if self.start.continues and trainer.global_step:
            return
        assert self.start.run
        metrics = [hparams.Metric(tag, display_name=name) for tag, name in self.METRICS.items()]
        # In the subfolder of `TensorBoardTestScores`.
        metrics.insert(1, hparams.Metric("test/acc", group="test", display_name="test/acc"))
        columns = {name: " " * (len(self.FIRST) - place) + name for place, name in enumerate(self.FIRST)}
        columns = {name: columns.get(name, name) for name in self.settings}
        names = [hparams.HParam(column, display_name=name) for name, column in columns.items()]
        values = {columns[name]: value for name, value in self.settings.items() if value is not None}
        charts = {
            group: {title: ["Multiline", [f"^{tags}$"]] for title, tags in titles.items()}
            for group, titles in self.CHARTS.items()
        }
        for writer in _writers(trainer):
            # Private in torch 2.15: SummaryWriter.add_hparams would open a second events file.
            events = writer._get_file_writer()  # type: ignore[no-untyped-call]
            events.add_summary(hparams.hparams_config_pb(names, metrics))
            events.add_summary(hparams.hparams_pb(values, trial_id=run_name(self.start.run)))
            writer.add_custom_scalars(charts)
            writer.add_text("recipe", self._recipe(self.start.run), 0)

    def _recipe(self, run: Path) -> str:
        """The command, the seed and the configuration in Markdown, without the dozens of options that are null."""
        options = "\n".join(line for line in self.config.splitlines() if not line.endswith(": null"))
        return f"`{recorded_command(run)}`\n\nSeed {self.settings['seed']}\n\n```yaml\n{options}\n```"


class TensorBoardTestScores(WritesFile):
    """The test scores, in the run's subfolder `test`: its fit may still be writing the run's own events file."""

    def __init__(self, run: Path, step: int) -> None:
        self.run, self.step = run, step

    def on_test_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.is_global_zero:
            with self.raise_later(self.run / "test"), SummaryWriter(str(self.run / "test")) as writer:
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
