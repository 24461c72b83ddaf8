"""`fit`, `validate` and `test`: LightningCLI with our module, our data module and a run folder for each fit."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.trainer import Trainer

from mnist_lit.callbacks.defaults import fit_callbacks, test_callbacks
from mnist_lit.callbacks.progress import progress_display
from mnist_lit.callbacks.tables import ScoreTable
from mnist_lit.cli import config as options
from mnist_lit.cli.execute import check_devices, flat_file_names, refusals, run_evaluation, run_fit
from mnist_lit.cli.help import format_help
from mnist_lit.cli.quiet import silence_expected_messages
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.module import MNISTModule
from mnist_lit.runs.checkpoint import AtomicCheckpointIO, config_of, load_checkpoint, require_network
from mnist_lit.runs.folders import LOGS, newest_checkpoint
from mnist_lit.runs.loggers import create_loggers
from mnist_lit.runs.start import RunStart, begin_run
from mnist_lit.system.malloc import keep_freed_memory
from mnist_lit.system.signals import die_with_parent

TRAINER_DEFAULTS: dict[str, Any] = {
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # our loaders know their share
}
# Parameters of `Trainer.fit`, `validate` and `test` that are not options.
NO_OPTIONS = {"model", "datamodule", "train_dataloaders", "val_dataloaders", "dataloaders", "verbose", "weights_only"}


def main(command: str, args: list[str]) -> None:
    """Run one of the three commands. Raises InputError on wrong input."""
    silence_expected_messages()
    keep_freed_memory()
    launched = os.environ.get("LOCAL_RANK", "0") != "0" or "TORCHELASTIC_RUN_ID" in os.environ
    if launched or {"--group", "--run"} & {*args}:
        die_with_parent()  # Lightning's launcher, torchrun, a group of seeds or a sweep
    MNISTCLI([command, *args])


class MNISTCLI(LightningCLI):
    """LightningCLI with one module, one data module and our callbacks."""

    def __init__(self, args: list[str]) -> None:
        self._called, self._args = args[0], args
        self._start = RunStart()  # where a fit begins
        self._lock: FileLock | None = None  # on its run folder
        self._typed = options.typed_command(args)
        parser_options = {"exit_on_error": False, "allow_abbrev": False, "prog": "mnist-lit"}
        super().__init__(
            MNISTModule,
            MNISTDataModule,
            args=args,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            save_config_callback=None,  # `begin_run` writes config.yaml
            parser_kwargs=dict.fromkeys(self.subcommands(), parser_options) | parser_options,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # it would write class paths into checkpoints
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the command that was called: building a parser takes a tenth of a second."""
        return {self._called: NO_OPTIONS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """One seed for all, class names from the data, and the options of run folders."""
        options.add_options(parser, self._called)
        vars(parser)["format_help"] = partial(format_help, parser, self._called, everything="all" in self._args)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; if a checkpoint is named, its own settings are defaults, so explicit options override them."""
        assert isinstance(args, list)
        command, *rest = options.inline_configs(args)
        options.allow_local_network(rest)
        with options.explained_errors(self._parser(command)):
            super().parse_arguments(parser, [command, *rest])
            path = self.config[command].ckpt_path
            if command != "fit" and not path:
                path = str(newest_checkpoint(Path(self.config[command].trainer.default_root_dir or "", LOGS)))
            if path:
                self._checkpoint = load_checkpoint(path)
                saved = config_of(self._checkpoint)
                if command != "fit":  # how it was trained does not say how to evaluate it
                    saved.pop("trainer", None)
                    saved["model"].pop("init_from", None)
                super().parse_arguments(parser, [command, "--config", yaml.safe_dump(saved), *rest])
                self.config[command].ckpt_path = path
                require_network(self._checkpoint, self.config[command].model.network)
                options.print_differences(command, path, saved, self.config[command])
        options.resolve_options(command, self.config[command])

    def _parse_ckpt_path(self) -> None:
        """Lightning's would let a checkpoint's hyperparameters override the command line; see `parse_arguments`."""

    def instantiate_classes(self) -> None:
        """Build the module, the data module and the trainer; what they refuse becomes one line."""
        with refusals(self._start):
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A Trainer with our loggers and callbacks; `trainer.callbacks` are added to ours."""
        config = self._get(self.config_init, "trainer")
        ours = self._fit_callbacks(config) if self.subcommand == "fit" else self._evaluation_callbacks(config)
        theirs = options.as_list(config.callbacks)
        run = None if self._start.finished or config.logger is False else self._start.run
        loggers = create_loggers(run) if run else []
        if not isinstance(config.logger, bool):
            loggers += options.as_list(config.logger)
        bar, progress = progress_display(config.enable_progress_bar, theirs)
        with refusals(self._start):
            trainer = super().instantiate_trainer(
                logger=loggers or False,
                callbacks=[*progress, *map(flat_file_names, theirs), *ours],
                enable_progress_bar=bar,
                enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in (*ours, *theirs)),
                plugins=[*options.as_list(config.plugins), AtomicCheckpointIO()],
                **kwargs,
            )
            check_devices(trainer)
            return trainer

    def _fit_callbacks(self, trainer: Any) -> list[Callback]:
        """Begin the run, and make what belongs to a fit; a dry run leaves no files."""
        config = self.config[self.subcommand]
        logs = Path(trainer.default_root_dir or "", LOGS)
        yaml_text = options.repeatable_config(self._parser(self.subcommand), config)
        if not trainer.fast_dev_run and options.is_rank_zero():
            group, run = (given and Path(given) for given in (config.group, config.run))
            place = {"seed": config.seed_everything, "group": group, "run": run, "resume": bool(config.resume)}
            self._start, self._lock = begin_run(logs, yaml_text, self._typed, **place)
        elif not trainer.fast_dev_run:
            self._start = RunStart(logs / "of_rank_0")  # until rank 0 broadcasts its own; never written to
        saves = not trainer.fast_dev_run and trainer.enable_checkpointing is not False
        saving = {"every_n_steps": config.checkpoint_every_n_steps, "keep_epochs": config.keep_epochs}
        drawing = {"logs_curves": trainer.logger is not False, "figures": config.figures}
        settings = options.tensorboard_settings(config)
        return fit_callbacks(self._start, logs, yaml_text, settings, saves=saves, **saving, **drawing)

    def _evaluation_callbacks(self, trainer: Any) -> list[Callback]:
        """What belongs to `validate` and `test`; predictions are written for a complete test only."""
        limit = trainer.limit_test_batches  # 1 is one batch, 1.0 all of them
        complete = not trainer.fast_dev_run and (limit is None or (isinstance(limit, float) and limit == 1))
        if self.subcommand != "test" or not complete:
            return [ScoreTable()]
        return test_callbacks(Path(self._get(self.config, "ckpt_path")), self._checkpoint["global_step"])

    def fit(self, model: MNISTModule, datamodule: MNISTDataModule, ckpt_path: str | None = None) -> None:
        """Train; `--ckpt_path` resumes a run in a new folder, `--resume auto` in its own."""
        resume = self._get(self.config, "resume")
        run_fit(self.trainer, model, datamodule, self._start, self._lock, ckpt_path=ckpt_path, resume=bool(resume))

    def validate(self, model: MNISTModule, datamodule: MNISTDataModule, ckpt_path: str) -> None:
        """Score a checkpoint on the validation images."""
        run_evaluation(self.trainer.validate, model, datamodule, self._checkpoint)

    def test(self, model: MNISTModule, datamodule: MNISTDataModule, ckpt_path: str) -> None:
        """Score a checkpoint on the official test images."""
        run_evaluation(self.trainer.test, model, datamodule, self._checkpoint)
