"""`fit`, `validate` and `test`: LightningCLI with our module, our data module and a run folder for each fit.

`MNISTCLI` parses the options with `config`, then builds module, data module and trainer with `trainer`, which lists
the callbacks. `execute` runs the trainer, and `finish` does what follows a complete fit.
"""

from functools import partial
from typing import Any

import yaml
from filelock import FileLock
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.trainer import Trainer

from mnist_lit.cli import config as cli_config
from mnist_lit.cli.execute import check_devices, prepare_process, refusals, run_evaluation, run_fit
from mnist_lit.cli.help import format_help
from mnist_lit.cli.trainer import begin_fit, callbacks_of_evaluation, callbacks_of_fit, trainer_arguments
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.module import MNISTModule
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.folders import logs_folder, newest_checkpoint
from mnist_lit.runs.metadata import config_of
from mnist_lit.runs.recipes import HARDWARE_SETTINGS, without_settings
from mnist_lit.runs.start import RunStart
from mnist_lit.runs.weights import require_network
from mnist_lit.system.gpu import set_up_gpu

TRAINER_DEFAULTS: dict[str, Any] = {
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # our loaders divide the data themselves
}
# Parameters of `Trainer.fit`, `validate` and `test` that are not options.
NO_OPTIONS = {"model", "datamodule", "train_dataloaders", "val_dataloaders", "dataloaders", "verbose", "weights_only"}


def main(command: str, args: list[str]) -> None:
    """Run one of the three commands. Raises InputError on wrong input."""
    prepare_process(args)
    MNISTCLI([command, *args])


class MNISTCLI(LightningCLI):
    """LightningCLI with one module, one data module and our callbacks."""

    def __init__(self, args: list[str]) -> None:
        self._command, self._args = args[0], args
        self._start = RunStart()  # where a fit begins
        self._lock: FileLock | None = None  # on its run folder
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
        return {self._command: NO_OPTIONS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our options, link every seed to one, take the number of classes from the data, and replace the help."""
        cli_config.add_options(parser, self._command)
        vars(parser)["format_help"] = partial(format_help, parser, self._command, everything="all" in self._args)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; if a checkpoint is named, its own settings are defaults, so explicit options override them."""
        assert isinstance(args, list)
        command, *rest = cli_config.inline_configs(args)
        cli_config.refuse_fit_options(command, rest)
        cli_config.allow_local_network(rest)
        with cli_config.explained_errors(self._parser(command)):
            super().parse_arguments(parser, [command, *rest])
            path = self.config[command].ckpt_path
            if command != "fit" and not path:
                path = str(newest_checkpoint(logs_folder(self.config[command].trainer.default_root_dir)))
            if path:
                self._checkpoint = load_checkpoint(path)
                saved = config_of(self._checkpoint)
                if command == "fit":  # perhaps on another machine
                    saved["trainer"] = without_settings(saved["trainer"], HARDWARE_SETTINGS)
                else:  # training settings do not apply to evaluation
                    saved.pop("trainer", None)
                    saved["model"].pop("init_from", None)
                defaults = yaml.safe_dump(cli_config.without_other_folder(saved, args))
                super().parse_arguments(parser, [command, "--config", defaults, *rest])
                self.config[command].ckpt_path = path
                require_network(self._checkpoint, self.config[command].model.network)
                cli_config.print_differences(command, path, saved, self.config[command])
        cli_config.resolve_options(command, self.config[command])
        self._yaml_text = cli_config.repeatable_config(self._parser(command), self.config[command])

    def _parse_ckpt_path(self) -> None:
        """Do nothing, where Lightning would let a checkpoint's hyperparameters override the command line."""

    def instantiate_classes(self) -> None:
        """Build the module, the data module and the trainer; report what they refuse in one line."""
        with refusals(self._start):
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A Trainer with our loggers and callbacks, to which those of `trainer` are added."""
        config, trainer = self.config[self._command], self._get(self.config_init, "trainer")
        set_up_gpu(exact=trainer.deterministic is not False)
        if self._command == "fit":
            self._start, self._lock = begin_fit(
                config, trainer, self._yaml_text, cli_config.typed_command(self._args, config.ckpt_path)
            )
            callbacks = callbacks_of_fit(config, trainer, self._start, self._yaml_text)
        else:
            callbacks = callbacks_of_evaluation(self._command, config, trainer, self.datamodule, self._checkpoint)
        with refusals(self._start):
            made = super().instantiate_trainer(**trainer_arguments(trainer, callbacks, self._start), **kwargs)
            check_devices(made)
            return made

    def fit(self, model: MNISTModule, datamodule: MNISTDataModule, ckpt_path: str | None = None) -> None:
        """Train; `--ckpt_path` resumes a run in a new folder, `--resume auto` in its own."""
        run_fit(self.trainer, model, datamodule, self._start, self._lock, ckpt_path=ckpt_path)

    def validate(self, model: MNISTModule, datamodule: MNISTDataModule, ckpt_path: str) -> None:
        """Score a checkpoint on the validation images."""
        run_evaluation(self.trainer, "validate", model, datamodule, self._checkpoint)

    def test(self, model: MNISTModule, datamodule: MNISTDataModule, ckpt_path: str) -> None:
        """Score a checkpoint on the official test images."""
        run_evaluation(self.trainer, "test", model, datamodule, self._checkpoint)
