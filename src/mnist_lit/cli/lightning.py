"""`fit`, `validate` and `test`: LightningCLI, wired to the network, the data and the run folders.

Takes tens of megabytes and seconds to import, so `cli` comes here only for these three.
"""

import logging
import os
import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, Namespace
from jsonargparse.typing import NonNegativeInt
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.trainer import Trainer

from mnist_lit.callbacks.checkpoints import SaveBestAndLast
from mnist_lit.callbacks.figures import TensorBoardFigures
from mnist_lit.callbacks.predictions import WritePredictions
from mnist_lit.callbacks.resume import BroadcastResume, RankOrderedGradients, RunFinished
from mnist_lit.callbacks.stopping import StopOnDivergence, StopOnSignal
from mnist_lit.callbacks.tables import FitTable, ProgressBar, ScoreTable
from mnist_lit.callbacks.tensorboard import TensorBoardHParams, TensorBoardTestScores
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.evaluation.calibration import calibrate_checkpoint
from mnist_lit.module import MNISTModule
from mnist_lit.runs.checkpoint import METADATA_KEY, AtomicCheckpointIO, config_of, load_checkpoint, load_weights
from mnist_lit.runs.folders import (
    FINISHED_MARK,
    LOGS,
    all_runs,
    best_checkpoint,
    create_named_run,
    create_run,
    group_members,
    newest_checkpoint,
    run_of_checkpoint,
)
from mnist_lit.runs.locate import LATEST, is_pretrained, locate_model, published_score
from mnist_lit.runs.loggers import create_loggers
from mnist_lit.runs.recipes import NETWORK_SETTINGS, recipe_name
from mnist_lit.runs.resume import check_same_recipe, find_resumable, lock_run, restore_run
from mnist_lit.runs.start import RunStart
from mnist_lit.system.arguments import explain_error
from mnist_lit.system.atomic_file import write_atomic
from mnist_lit.system.distributed import is_peer_failure
from mnist_lit.system.malloc import keep_freed_memory
from mnist_lit.system.signals import die_with_parent

__all__ = ["MNISTCLI", "main"]

NOISE = (  # said at every run, about things that are as they should be
    r".*LeafSpec",
    r".*does not have many workers",
    r"Total length of `list` across ranks is zero",  # data.val_size: 0
    r"The ``compute`` method of metric .* was called before the ``update``",  # counts came from a checkpoint
    r"The number of training batches .* is smaller than the logging interval",
    r"LightningCLI's args parameter is intended",
    r"You requested to overfit but enabled train dataloader shuffling",  # ours is off: data.shuffle
    r"It is recommended to use `self.log\(.*sync_dist=True",  # torchmetrics has synced
)
INFO = re.compile(  # and what Lightning tells about itself
    r"(GPU|TPU|HPU) available|💡 Tip|`Trainer\.fit` stopped|Seed set to|Restoring states|Restored all states"
    r"|Loading `train_dataloader`|Initializing distributed|distributed_backend|-{20}|Running in `fast_dev_run`"
    r"|LOCAL_RANK|`weights_only` was not set|`Trainer\(.*\)` was configured so"
)
TRAINER_DEFAULTS: dict[str, Any] = {
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # our loaders know their shard
}
PROCESSES = 8  # of a CPU core, at most; a device of the CPU is a process
EPOCHS = 10  # where neither epochs, steps nor time are limited


def main(command: str, args: list[str]) -> None:
    """Run one of the three commands. Raises InputError on wrong input."""
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_is_news)
    keep_freed_memory()
    launched = os.environ.get("LOCAL_RANK", "0") != "0" or "TORCHELASTIC_RUN_ID" in os.environ
    if launched or {"--group", "--run"} & {*args}:
        die_with_parent()  # which is Lightning's launcher, torchrun's, the group or the sweep
    MNISTCLI([command, *args])


class MNISTCLI(LightningCLI):
    """LightningCLI with one model, one data module, and a run folder for each fit."""

    _start = RunStart()  # of a fit
    _lock: Any = None  # on its run folder

    def __init__(self, args: list[str]) -> None:
        self._asked = args[0]
        hidden = {"--group", "--run", *(["--resume"] if "--run" in args else [])}  # what a group or a sweep added
        told = [arg for before, arg in pairwise(["", *args]) if not hidden & {before, arg}]
        self._command = shlex.join(["mnist-lit", *map(recipe_name, told)])
        options = {"exit_on_error": False, "allow_abbrev": False, "prog": "mnist-lit"}
        super().__init__(
            MNISTModule,
            MNISTDataModule,
            args=args,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            save_config_callback=None,  # `_fresh_run` writes it into the run folder
            parser_kwargs=dict.fromkeys(self.subcommands(), options) | options,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # it would write class paths into the checkpoints
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The command that was called, and the parameters of the Trainer's method that are no options.

        Each command's parser takes a tenth of a second to make.
        """
        ours = {
            "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"},
            "validate": {"model", "dataloaders", "datamodule", "weights_only", "verbose"},
            "test": {"model", "dataloaders", "datamodule", "weights_only", "verbose"},
        }
        return {self._asked: ours[self._asked]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """One seed for all, the data's classes, and `overfit_batches` that sees the same batches each epoch."""
        keeps = "Keep each epoch's checkpoint, as checkpoints/epoch_1.ckpt and so on."
        parser.add_argument("--keep_epochs", type=bool, default=False, help=keeps)
        every = "Save also within an epoch, every so many optimizer steps; 0 does not."
        parser.add_argument("--checkpoint_every_n_steps", type=NonNegativeInt, default=0, help=every)
        goes_on = "`auto` goes on with the newest checkpoint of the same recipe in the run folders, if there is one."
        parser.add_argument("--resume", type=Literal["auto"] | None, default=None, help=goes_on)
        if self._asked == "fit":
            seeds = "Train several seeds, one after another, as one group: how many, or which, as 0,3,7 or 10-14."
            parser.add_argument("--seeds", type=int | str | None, default=None, help=seeds)
            group = "The folder of a group, in which this run is `seed_N`; `--seeds` sets it."
            parser.add_argument("--group", type=str | None, default=None, help=group)
            run = "This run's own folder, in the place of a fresh `version_N`; `sweep` sets it."
            parser.add_argument("--run", type=str | None, default=None, help=run)
        figures = "Draw training images, confusion matrix and worst mistakes for TensorBoard."
        parser.add_argument("--figures", type=bool, default=True, help=figures)
        parser.link_arguments("seed_everything", "model.seed", compute_fn=_seed)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)
        parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")
        parser.link_arguments("trainer.overfit_batches", "data.shuffle", compute_fn=lambda batches: not batches)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; where a checkpoint is named, its own settings stand in for what is not given explicitly."""
        assert isinstance(args, list)
        command = args[0]
        args = [
            _config_text(arg) if before == "--config" else arg for before, arg in zip(["", *args], args, strict=False)
        ]
        try:
            super().parse_arguments(parser, args)
            config = self.config[command]
            path = config.ckpt_path
            if command != "fit" and not path:
                path = str(newest_checkpoint(_logs(config.trainer)))
            if path:
                self._checkpoint = load_checkpoint(path)
                saved = config_of(self._checkpoint)
                if command != "fit":  # how it was trained says nothing of how to evaluate it
                    saved.pop("trainer", None)
                    saved["model"].pop("init_from", None)
                super().parse_arguments(parser, [command, "--config", yaml.safe_dump(saved), *args[1:]])
                config = self.config[command]
                config.ckpt_path = path
                _tell_differences(command, path, saved, config)
        except ArgumentError as error:
            raise InputError(explain_error(str(error), list(self._parser(command).get_defaults().keys()))) from error
        if command == "fit" and not path:
            config.model.init_from = _init_from(config)
        if command == "fit" and config.resume and path:
            raise InputError("--resume auto finds its checkpoint itself; leave --ckpt_path out")
        if config.get("seeds"):
            raise InputError("seeds: goes on the command line, as in `mnist-lit fit --config fast --seeds 5`")
        limits = config.trainer
        if limits.max_epochs is None and limits.max_steps == -1 and limits.max_time is None:
            limits.max_epochs = EPOCHS

    def _parse_ckpt_path(self) -> None:
        """Lightning's would let the checkpoint's hyper-parameters beat the command line's; see `parse_arguments`."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A Trainer with our logger and callbacks; `trainer.callbacks` come in addition."""
        config = self._get(self.config_init, "trainer")
        callbacks = self._fit_callbacks(config) if self.subcommand == "fit" else self._evaluation_callbacks(config)
        logger = config.logger
        if logger in (None, True):
            run = self._start.run if self.subcommand == "fit" and not self._start.finished else None
            logger = create_loggers(run) if run else False
        bar = sys.stdout.isatty() if config.enable_progress_bar is None else config.enable_progress_bar
        saves = any(isinstance(callback, SaveBestAndLast) for callback in callbacks)
        callbacks = [*([ProgressBar()] if bar else []), *_list(config.callbacks), *callbacks]
        with self._refusals():
            if (number := config.accumulate_grad_batches) < 1:
                raise InputError(f"trainer.accumulate_grad_batches: expected 1 or more, got {number}")
            trainer = super().instantiate_trainer(
                logger=logger,
                callbacks=callbacks,
                enable_progress_bar=bar,
                enable_checkpointing=saves,
                plugins=[*_list(config.plugins), AtomicCheckpointIO()],
                **kwargs,
            )
            limit = PROCESSES * (os.cpu_count() or 1)
            if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > limit:
                raise InputError(
                    f"trainer.devices: expected {limit} or fewer CPU processes here, got {trainer.num_devices}"
                )
            return trainer

    def _fit_callbacks(self, config: Namespace) -> list[Callback]:
        """What belongs to a fit, in a run folder made for it; a dry run leaves no files."""
        logs = _logs(config)
        saves = not config.fast_dev_run and config.enable_checkpointing is not False
        self._start = start = RunStart() if config.fast_dev_run else self._begin(logs)
        self._agree = BroadcastResume(start)
        callbacks: list[Callback] = [self._agree, RankOrderedGradients(), StopOnDivergence(start)]
        if start.run and config.logger is not False:
            callbacks.append(TensorBoardHParams(start, _plain(self.config[self.subcommand])))
            if self._get(self.config, "figures"):
                callbacks.append(TensorBoardFigures(start))
        saver = None
        if saves and start.run:
            every, keeps = self._get(self.config, "checkpoint_every_n_steps"), self._get(self.config, "keep_epochs")
            saver = SaveBestAndLast(start, self._config_yaml(), every_n_steps=every, keep_epochs=keeps)
        # The table behind the others, since its clock stops for their work; Lightning calls the saver after all.
        callbacks += [FitTable(start, logs, saves=saves), StopOnSignal(saver)]
        return [*callbacks, *([saver] if saver else [])]

    def _evaluation_callbacks(self, config: Namespace) -> list[Callback]:
        """What belongs to `validate` and `test`; predictions are written of a whole test only."""
        limit = config.limit_test_batches  # 1 is one batch, 1.0 all of them
        whole = not config.fast_dev_run and (limit is None or (isinstance(limit, float) and limit == 1))
        if self.subcommand != "test" or not whole:
            return [ScoreTable()]
        path = Path(self._get(self.config, "ckpt_path"))
        shipped = is_pretrained(path)
        run = Path() if shipped else run_of_checkpoint(path)
        predictions = run / "predictions.csv"
        callbacks = [ScoreTable(predictions, published_score() if shipped else None), WritePredictions(predictions)]
        if run.joinpath("config.yaml").exists():
            callbacks.append(TensorBoardTestScores(run, self._checkpoint["global_step"]))
        return callbacks

    def fit(self, model: MNISTModule, datamodule: MNISTDataModule, ckpt_path: str | None = None) -> None:
        """Train; `ckpt_path` continues a run in a new folder, `resume` in its own."""
        start = self._start
        with self._refusals():
            if not start.finished:
                self._prepare(datamodule)
            if start.continues and _is_rank_zero():
                restore_run(start, datamodule.fingerprint)
            path: Any = self._agree.found if self._get(self.config, "resume") else ckpt_path
            try:
                if start.finished and self._starts_the_others():
                    raise RunFinished  # nobody waits to be told
                self.trainer.fit(model, datamodule=datamodule, ckpt_path=path, weights_only=True)
            except RunFinished:
                pass
            except (LookupError, AttributeError, RuntimeError) as error:
                used = start.checkpoint or ckpt_path
                if model.has_trained or not used or is_peer_failure(error):
                    raise
                reason = " ".join(str(error).split())[:100]
                raise InputError(f"{used} cannot be gone on with ({type(error).__name__}: {reason})") from error
            finally:
                if self._lock:
                    self._lock.release()
            if not model.has_trained and not start.continues and not start.finished:
                raise InputError("nothing to train: the run was at its end, or its limits allow no step")
            if not model.has_trained and start.run and _is_rank_zero():
                if not start.finished:  # it was killed between its last save and this mark
                    start.run.joinpath(FINISHED_MARK).touch()
                print(f"fit: {start.run} is finished; its best is {best_checkpoint(start.run)}")
            if start.run and _is_rank_zero():
                self._calibrate(start.run, datamodule)

    def _calibrate(self, run: Path, datamodule: MNISTDataModule) -> None:
        """Calibrate the run's best checkpoint where images were set aside, also where a kill came before."""
        path = best_checkpoint(run)
        if path and datamodule.val_size and not load_checkpoint(path)[METADATA_KEY].get("calibration"):
            datamodule.setup()
            assert datamodule.digits
            calibrate_checkpoint(path, path, datamodule.digits, datamodule.train_indices, datamodule.val_indices)

    def validate(self, model: MNISTModule, datamodule: MNISTDataModule, ckpt_path: str) -> None:
        """Score a checkpoint on the validation images."""
        self._evaluate(self.trainer.validate, model, datamodule)

    def test(self, model: MNISTModule, datamodule: MNISTDataModule, ckpt_path: str) -> None:
        """Score a checkpoint on the official test images."""
        self._evaluate(self.trainer.test, model, datamodule)

    def _evaluate(self, run: Any, model: MNISTModule, datamodule: MNISTDataModule) -> None:
        with self._refusals():
            self._prepare(datamodule)
            told = self._checkpoint[METADATA_KEY].get("classes")  # older files name none
            if told and tuple(told) != datamodule.classes:
                names = (", ".join(map(str, classes)) for classes in (told, datamodule.classes))
                raise InputError("the checkpoint tells apart {}, and the data has {}".format(*names))
            load_weights(model, self._checkpoint)
            run(model, datamodule=datamodule, verbose=False)
        if model.confusion is None:
            raise InputError(f"{self.subcommand} had no images: data.val_size is 0, or the trainer's limits allow none")

    def _starts_the_others(self) -> bool:
        """Whether there is no other process yet."""
        environment = getattr(self.trainer.strategy, "cluster_environment", None)
        external = environment is not None and environment.creates_processes_externally
        return self.trainer.world_size == 1 or (self.trainer.num_nodes == 1 and not external)

    def _prepare(self, datamodule: MNISTDataModule) -> None:
        """Have the data before other processes are started, who would wait for one that was refused it."""
        datamodule.device, datamodule.epochs = self.trainer.strategy.root_device, self.trainer.max_epochs
        datamodule.prepare_data()
        datamodule.setup()

    def _begin(self, logs: Path) -> RunStart:
        """A run to go on with, or a new folder with the whole configuration in it.

        Other ranks name a place that they never write to.
        """
        if not _is_rank_zero():
            return RunStart(logs / "of_rank_0")
        group, own = (given and Path(given) for given in (self._get(self.config, name) for name in ("group", "run")))
        if own:
            among = [own]
        else:
            among = group_members(group) if group else [run for run in all_runs(logs) if run.parent == logs]
        if group:
            check_same_recipe(among, self._config_yaml())
        if self._get(self.config, "resume") and (found := find_resumable(among, self._config_yaml())):
            start, self._lock = found
            return start
        seed = self._get(self.config, "seed_everything")
        own = own or (group and group / f"seed_{seed}")
        run = create_named_run(own) if own else create_run(logs)
        self._lock = lock_run(run)
        write_atomic(run / "config.yaml", f"# {self._command}\n{self._config_yaml()}".encode())
        return RunStart(run)

    def _config_yaml(self) -> str:
        """What repeats this run as a `--config`: all but the checkpoint that it came from."""
        assert self.subcommand is not None
        config = self.config[self.subcommand].clone()
        del config["ckpt_path"], config["resume"], config["seeds"], config["group"], config["run"]
        return str(self._parser(self.subcommand).dump(config, skip_none=False, skip_validation=True))

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """What the trainer refuses before its first step is wrong input: one line, and no run folder left behind."""
        try:
            yield
        except BaseException as error:
            if is_peer_failure(error):
                raise ConnectionError("another process of this run has ended; --resume auto goes on") from error
            if getattr(self, "model", None) is not None and self.model.has_trained:
                raise
            start = self._start
            if start.run and not start.continues and not start.finished and _is_rank_zero():
                shutil.rmtree(start.run, ignore_errors=True)
                with suppress(OSError):
                    start.run.parent.rmdir()  # if it is empty
            if isinstance(error, MisconfigurationException | ValueError | TypeError) and not isinstance(
                error, InputError
            ):
                raise InputError(explain_error(str(error), [])) from error
            raise


def _init_from(config: Namespace) -> str:
    """The file to start from: a run's configuration names what it started from, and the shipped one by its name."""
    given = str(config.model.init_from)
    if given == LATEST and (config.resume or config.group or config.run):
        raise InputError("model.init_from: expected a run or a file here; latest would be another one the next time")
    return str(locate_model(given)) if given == LATEST else given


def _plain(config: Namespace) -> dict[str, Any]:
    """The settings that TensorBoard compares runs by: the model's and the data's numbers and words, and the seed."""
    unrelated = ("num_classes", "seed", "shuffle", "data_dir", *NETWORK_SETTINGS)
    kept = {"seed": config.seed_everything, "max_epochs": config.trainer.max_epochs}
    for section in (config.model, config.data):
        kept |= {name: value for name, value in section.items() if name not in unrelated}
    return {name: value for name, value in kept.items() if value is not None}


def _list(value: Any) -> list[Any]:
    """What Lightning takes as one, several or none."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _logs(trainer: Namespace) -> Path:
    return Path(trainer.default_root_dir or "", LOGS)


def _is_rank_zero() -> bool:
    """Whether this process writes; before the Trainer exists only the environment knows."""
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return not rank_zero_only.rank and node == "0"  # type: ignore[attr-defined]


def _is_news(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or not INFO.search(record.getMessage())


def _config_text(path: str) -> str:
    """A config file as the text that stands for it: UTF-8 whatever the machine's language, empty sections left out."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(error, 'problem', error)}" if mark else " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as YAML: {where}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is no config: expected sections of options, as in `model: {{lr: 0.1}}`")
    return yaml.safe_dump({str(key): value for key, value in content.items() if value is not None})


def _seed(value: int | bool) -> int:  # noqa: FBT001
    if isinstance(value, bool) or not 0 <= value < 2**32:
        raise ValueError(f"seed_everything: expected a whole number from 0 to 2³² - 1, got {value}")
    return value


def _tell_differences(command: str, path: str, saved: dict[str, Any], config: Namespace) -> None:
    """Say which checkpoint it is, and where explicit options beat what it was trained with."""
    lines = [] if command == "fit" else [f"{command}: {path}"]
    for section in ("model", "data"):
        for name, before in saved.get(section, {}).items():
            now = config[section].get(name, before)
            if now != before:
                lines.append(f"{section}.{name}: {now} instead of the checkpoint's {before}")
    structure = {"optimizer": saved["model"].get("optimizer"), "ema_decay": saved["model"].get("ema_decay")}
    for name, before in structure.items():
        now = config.model[name]
        if command == "fit" and (now != before if name == "optimizer" else bool(now) != bool(before)):
            raise InputError(f"model.{name}: a run with {before} cannot go on with {now}")
    if _is_rank_zero():
        print(*lines, sep="\n", end="\n" if lines else "")
