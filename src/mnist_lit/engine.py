"""`fit`, `validate` and `test`: LightningCLI, wired to the network, the data and the run folders.

Takes tens of megabytes and seconds to import, so `cli` comes here only for these three.
"""

import logging
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.trainer import Trainer

from mnist_lit import checkpoint, runs
from mnist_lit.callbacks import BestAndLast, FitTable, Predictions, ScoreTable
from mnist_lit.classifier import Classifier
from mnist_lit.datamodule import DigitsDataModule
from mnist_lit.errors import InputError
from mnist_lit.memory import keep_memory
from mnist_lit.suggest import explain

__all__ = ["CLI", "main"]

NOISE = (  # said at every run, about things that are as they should be
    r".*LeafSpec",
    r".*does not have many workers",
    r"Total length of `list` across ranks is zero",  # data.val_size: 0
    r"The number of training batches .* is smaller than the logging interval",
    r"Experiment logs directory .* exists and is not empty",  # our config.yaml is in it
    r"LightningCLI's args parameter is intended",
    r"You requested to overfit but enabled train dataloader shuffling",  # ours is off: data.shuffle
    r"It is recommended to use `self.log\(.*sync_dist=True",  # torchmetrics has synced
)
TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": 10,
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # our loaders know their share
}


def main(command: str, args: list[str]) -> None:
    """Run one of the three commands. Raises InputError on wrong input."""
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    keep_memory()
    try:
        CLI([command, *args])
    except MisconfigurationException as error:
        raise InputError(" ".join(str(error).split())) from error


class CLI(LightningCLI):
    """LightningCLI with one model, one data module, and a run folder for each fit."""

    def __init__(self, args: list[str]) -> None:
        super().__init__(
            Classifier,
            DigitsDataModule,
            args=args,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            save_config_callback=None,  # `_fit_callbacks` writes it into the run folder
            parser_kwargs={name: {"exit_on_error": False} for name in self.subcommands()} | {"exit_on_error": False},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # it would write class paths into the checkpoints
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, and the Trainer methods' parameters that are no options."""
        return {
            "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"},
            "validate": {"model", "dataloaders", "datamodule", "weights_only", "verbose"},
            "test": {"model", "dataloaders", "datamodule", "weights_only", "verbose"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """One seed for all, and `overfit_batches` that sees the same batches each epoch."""
        parser.link_arguments("seed_everything", "model.seed", compute_fn=_seed)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)
        parser.link_arguments("trainer.overfit_batches", "data.shuffle", compute_fn=lambda batches: not batches)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; where a checkpoint is named, its own settings stand in for what is not given explicitly."""
        assert isinstance(args, list)
        try:
            super().parse_arguments(parser, args)
            path = self.config[args[0]].ckpt_path
            if not path:
                return
            saved = yaml.safe_load(checkpoint.load(path)[checkpoint.KEY]["config"])
            if args[0] != "fit":
                saved.pop("trainer", None)  # how it was trained says nothing of how to evaluate it
            super().parse_arguments(parser, [args[0], "--config", yaml.safe_dump(saved), *args[1:]])
        except ArgumentError as error:
            raise InputError(explain(str(error), list(self._parser(args[0]).get_defaults().keys()))) from error
        _print_differences(saved, self.config[args[0]])

    def _parse_ckpt_path(self) -> None:
        """Lightning's would let the checkpoint's hyper-parameters beat the command line's; see `parse_arguments`."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A Trainer with our loggers and callbacks; `trainer.callbacks` come in addition."""
        config = self._get(self.config_init, "trainer")
        dry = bool(config.fast_dev_run)
        logs = Path(config.default_root_dir or "", runs.LOGS)
        callbacks: list[Callback] = []
        logger: Logger | list[Logger] | bool = config.logger
        run = self.run = self._fresh_run(logs) if self.subcommand == "fit" and not dry else None
        if self.subcommand == "fit":
            if logger in (None, True):
                logger = _loggers(run) if run else False
            best = BestAndLast(run, self._config_yaml()) if run and config.enable_checkpointing is not False else None
            callbacks += [FitTable(run, logs, best), *([best] if best else [])]
        else:
            logger = False if logger in (None, True) else logger
            path = runs.run_of(Path(self._get(self.config, "ckpt_path"))) / "predictions.csv"
            predict = self.subcommand == "test" and not dry
            callbacks += [ScoreTable(path if predict else None), *([Predictions(path)] if predict else [])]
        if config.enable_progress_bar is None:
            kwargs["enable_progress_bar"] = sys.stdout.isatty()
        if kwargs.get("enable_progress_bar"):
            callbacks.append(RichProgressBar(refresh_rate=5, leave=False))
        kwargs["callbacks"] = [*(config.callbacks or []), *callbacks]
        if self.subcommand != "fit" or not any(isinstance(callback, BestAndLast) for callback in callbacks):
            kwargs["enable_checkpointing"] = False
        with _removed_if_refused(run):
            return super().instantiate_trainer(logger=logger, **kwargs)

    def fit(self, model: Classifier, datamodule: DigitsDataModule, ckpt_path: str | None = None) -> None:
        """Train; `ckpt_path` continues a run."""
        with _removed_if_refused(self.run):
            self.trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)

    def validate(self, model: Classifier, datamodule: DigitsDataModule, ckpt_path: str) -> None:
        """Score a checkpoint on the validation images."""
        checkpoint.load_weights(model, checkpoint.load(ckpt_path))
        self.trainer.validate(model, datamodule=datamodule, verbose=False)

    def test(self, model: Classifier, datamodule: DigitsDataModule, ckpt_path: str) -> None:
        """Score a checkpoint on the official test images."""
        checkpoint.load_weights(model, checkpoint.load(ckpt_path))
        self.trainer.test(model, datamodule=datamodule, verbose=False)

    def _fresh_run(self, logs: Path) -> Path:
        """A new run folder with the whole configuration in it. Other ranks name a place that they never write to."""
        if rank_zero_only.rank:  # type: ignore[attr-defined]
            return logs / "of_rank_0"
        run = runs.fresh(logs)
        run.joinpath("config.yaml").write_text(self._config_yaml(), encoding="utf-8")
        return run

    def _config_yaml(self) -> str:
        assert self.subcommand is not None
        return str(self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False))


@contextmanager
def _removed_if_refused(run: Path | None) -> Iterator[None]:
    """Wrong input leaves no run folder behind, if nothing was trained in it yet."""
    try:
        yield
    except (InputError, MisconfigurationException):
        if run and not runs.best(run):
            shutil.rmtree(run, ignore_errors=True)
        raise


def _loggers(run: Path) -> list[Logger]:
    """The same scalars for TensorBoard and as `metrics.csv`, both in the run folder itself."""
    return [
        TensorBoardLogger(run.parent, name="", version=run.name, default_hp_metric=False),
        CSVLogger(run.parent, name="", version=run.name),
    ]


def _seed(value: int | bool) -> int:  # noqa: FBT001
    if isinstance(value, bool):
        raise ValueError("seed_everything: want a whole number, since every random number of a run comes from it")
    return value


def _print_differences(saved: dict[str, Any], config: Namespace) -> None:
    """Say where explicit options beat what the checkpoint was trained with."""
    for section in ("model", "data"):
        for name, before in saved.get(section, {}).items():
            now = config[section].get(name, before)
            if now != before:
                print(f"{section}.{name}: {now} instead of the checkpoint's {before}")
