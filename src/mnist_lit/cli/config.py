"""The configuration of `fit`, `validate` and `test`: our own options, config files, and a checkpoint's settings."""

import os
from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import callbacks, loggers
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.trainer import Trainer

from mnist_lit.cli.jsonargparse_limits import limit_jsonargparse
from mnist_lit.cli.network import allow_local_imports
from mnist_lit.errors import InputError, require
from mnist_lit.runs.locate import LAST, LATEST, locate_model
from mnist_lit.runs.recipes import DOWNLOAD_SETTINGS, INVOCATION_OPTIONS, command_line
from mnist_lit.system.arguments import fit_option, has_option
from mnist_lit.system.console import say
from mnist_lit.system.error_messages import explain_error
from mnist_lit.system.process_rank import is_first_process
from mnist_lit.system.yaml_file import load_yaml, read_written_yaml

DEFAULT_EPOCHS = 10  # if neither epochs, steps nor time are limited
PLAIN = (bool, int, float, str, list, dict, Namespace, type(None))  # values that YAML can hold
TRAINER_MINIMUMS = {  # the smallest values of the trainer's options that Lightning does not check
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
}
FIT_OPTIONS: dict[str, tuple[Any, Any, str]] = {  # type, default, help; other commands take them from a config only
    "--keep_epochs": (bool, False, "keep each epoch's checkpoint as checkpoints/epoch_1.ckpt and so on"),
    "--checkpoint_every_n_steps": (
        NonNegativeInt,
        0,
        "also save a checkpoint every N optimizer steps; 0 saves only after each epoch",
    ),
    "--resume": (
        Literal["auto"] | None,
        None,
        "`auto` resumes the newest checkpoint of the same recipe in the run folders, if there is one",
    ),
    "--figures": (bool, True, "draw training images, confusion matrix and worst mistakes for TensorBoard"),
}
INTERNAL = ("--group", "--run")  # set by `--seeds` and `sweep`; hidden from help
FOLLOWS_SEED, FOLLOWS_DATA = "follows seed_everything; set that instead", "follows the data; leave it out"
LINKED = {"model.seed": FOLLOWS_SEED, "data.seed": FOLLOWS_SEED, "model.num_classes": FOLLOWS_DATA}

limit_jsonargparse()

# `typing` caches unions: equal ones are the object that was created first, with its order of types. If a library has
# created one with float first, `--trainer.limit_train_batches 1` would be read as 1.0, which means all batches.
for _name, _type in Trainer.__init__.__annotations__.items():
    if _type == int | float | None:
        Trainer.__init__.__annotations__[_name] = int | float | None


def add_options(parser: LightningArgumentParser, command: str) -> None:
    """Add our options to the model's, the data's and the trainer's, and link some of those."""
    seeds = "train several seeds as one group: a count (5) or a list (0,3,7 or 10-14)"
    at_once = "seeds to train at a time (default: 1, or with a single GPU, one per CPU core, up to 16)"
    for option, (kind, default, text) in FIT_OPTIONS.items():
        parser.add_argument(option, type=kind, default=default, help=text if command == "fit" else SUPPRESS)
    if command == "fit":
        parser.add_argument("--seeds", type=int | str | None, default=None, help=seeds)
        parser.add_argument("--seeds_at_once", type=int | None, default=None, help=at_once)
        for option in INTERNAL:
            parser.add_argument(option, type=str | None, default=None, help=SUPPRESS)
    parser.link_arguments("seed_everything", "model.seed", compute_fn=_checked_seed)
    parser.link_arguments("seed_everything", "data.seed", compute_fn=_checked_seed)
    parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")


def _checked_seed(value: int | bool) -> int:  # noqa: FBT001
    if isinstance(value, bool) or not 0 <= value < 2**32:
        raise ValueError(f"seed_everything: expected a whole number from 0 to 2³² - 1, got {value}")
    return value


def refuse_fit_options(command: str, args: Sequence[str]) -> None:
    """Raise InputError if `validate` or `test` is given an option of a fit, which a run's config.yaml may hold."""
    given = {arg.partition("=")[0] for arg in args}
    if command != "fit" and (found := sorted({*FIT_OPTIONS} & given)):
        raise InputError(f"{found[0]} is an option of fit; leave it out")


def allow_local_network(args: Sequence[str]) -> None:
    """Allow importing a network of your own from the working directory, as `python` itself would."""
    configs = [load_yaml(arg) for before, arg in pairwise(["", *args]) if before == "--config"]
    named = any(isinstance(config.get("model"), dict) and config["model"].get("network") for config in configs)
    if named or any(arg.startswith("--model.network") for arg in args):
        allow_local_imports()


def typed_command(args: Sequence[str], ckpt_path: str | None) -> str:
    """The command as a person would type it: recipes by name, without what a group or a sweep has added, but with a
    checkpoint that a config file names."""
    args = [*args, "--ckpt_path", ckpt_path] if ckpt_path and not has_option(args, "--ckpt_path") else args
    hidden = {*INTERNAL, *(["--resume"] if "--run" in args else [])}
    shown = [arg for before, arg in pairwise(["", *args]) if not hidden & {before, arg}]
    return command_line(shown)


def inline_configs(args: Sequence[str]) -> list[str]:
    """Arguments with the text of each config file instead of its path.

    jsonargparse would open files in the machine's own encoding; here they are UTF-8 everywhere.
    """
    return [_config_text(arg) if before == "--config" else arg for before, arg in pairwise(["", *args])]


def _config_text(path: str) -> str:
    content = _read(path, "a config: expected sections of options, as in `model: {lr: 0.1}`")
    for section in ("model", "data", "trainer"):
        if isinstance(content.get(section), str) and os.path.isfile(content[section]):  # noqa: PTH113 (takes any text)
            content[section] = _read(content[section], "a section of a config: expected options, as in `lr: 0.1`")
    for setting, message in LINKED.items():  # which jsonargparse would ignore in a file
        section, _, name = setting.partition(".")
        if setting in content or (isinstance(content.get(section), dict) and name in content[section]):
            raise InputError(f"{setting}: {message}")
    text = yaml.safe_dump({str(key): value for key, value in content.items() if value is not None})
    try:
        load_yaml(text)  # with its sections, it may be too large
    except yaml.YAMLError as error:
        raise InputError(f"{path}: {error}") from error
    return text


def _read(path: str, expected: str) -> dict[Any, Any]:
    """The content of a config, or of one of its sections that has a file of its own."""
    content = read_written_yaml(Path(path))
    if not isinstance(content, dict):
        raise InputError(f"{path} is not {expected}")
    return content


@contextmanager
def explained_errors(parser: ArgumentParser) -> Iterator[None]:
    """Turn the parser's errors inside the block into one line that names the nearest valid option."""
    try:
        yield
    except ArgumentError as error:
        valid = [*parser.get_defaults().keys(), *callbacks.__all__, *loggers.__all__]
        raise InputError(explain_error(str(error), valid)) from error


def resolve_options(command: str, config: Namespace) -> None:
    """Fill in what depends on other options, in place. Raises InputError if options of a fit contradict each other."""
    for section in (config.model, config.data, config.trainer):
        section.pop("__path__", None)  # of a file that holds the section
    trainer = config.trainer
    if trainer.max_epochs is None and trainer.max_steps == -1 and trainer.max_time is None:
        trainer.max_epochs = DEFAULT_EPOCHS
    if trainer.barebones:
        raise InputError("trainer.barebones: only in Python, since the commands need callbacks to save and to score")
    devices = str(trainer.devices)  # Lightning makes a list of that length
    require("trainer.devices", devices, "1 or more", devices != "0")
    require("trainer.devices", devices, "9999 or fewer", not devices.isdecimal() or len(devices) <= 4)
    if command != "fit":
        return
    for name, least in TRAINER_MINIMUMS.items():
        value = trainer[name]
        require(f"trainer.{name}", value, f"{least} or more", value is None or value >= least)
    limit = trainer.limit_train_batches
    require("trainer.limit_train_batches", limit, "above 0", limit is None or limit > 0)
    interval = trainer.val_check_interval
    require("trainer.val_check_interval", interval, "above 0", not isinstance(interval, int | float) or interval > 0)
    source = str(config.model.init_from)
    if not config.ckpt_path and source in (LATEST, LAST):
        if config.resume or config.group or config.run:
            raise InputError(
                f"model.init_from: expected a run or a file; `{source}` may name a different run next time"
            )
        config.model.init_from = str(locate_model(source))
    if config.resume and config.ckpt_path:
        raise InputError("--resume auto finds its checkpoint itself; leave --ckpt_path out")
    if config.seeds:
        raise InputError("seeds: must be given on the command line, as in `mnist-lit fit --config fast --seeds 5`")
    if config.seeds_at_once:
        raise InputError("seeds_at_once: requires --seeds, as in `mnist-lit fit --seeds 16 --seeds_at_once 4`")


def without_other_folder(saved: dict[str, Any], args: Sequence[str]) -> dict[str, Any]:
    """A checkpoint's settings, without its data's folder if the arguments name another dataset, which is not in there
    and would be downloaded into it."""
    if fit_option(args, "data.dataset") in ("", saved["data"].get("dataset")):
        return saved
    return {**saved, "data": {name: value for name, value in saved["data"].items() if name != "data_dir"}}


def print_differences(command: str, path: str, saved: dict[str, Any], config: Namespace) -> None:
    """Print which checkpoint is used, and where explicit options override what it was trained with.

    Raises InputError where a resumed fit could not load its optimizer or EMA weights.
    """
    lines = [] if command == "fit" else [f"{command}: {path}"]
    for section in ("model", "data"):
        for name, before in saved.get(section, {}).items():
            now = config[section].get(name, before)
            if now != before:
                lines.append(f"{section}.{name}: {now} instead of the checkpoint's {before}")
    for name in ("optimizer", "ema_decay") if command == "fit" else ():
        before, now = saved["model"].get(name), config.model[name]
        changed = now != before if name == "optimizer" else bool(now) != bool(before)
        if changed:
            raise InputError(f"model.{name}: a run with {before} cannot be resumed with {now}")
    if is_rank_zero():
        say(*lines, sep="\n", end="\n" if lines else "")


def repeatable_config(parser: ArgumentParser, config: Namespace) -> str:
    """The configuration that repeats this run as a `--config`: everything except the checkpoint it came from.
    Raises InputError if it could not be read again: jsonargparse accepts JSON beyond our limits on YAML."""
    config = config.clone()
    for name in INVOCATION_OPTIONS:
        config.pop(name, None)
    chosen = (*as_list(config.trainer.callbacks), *as_list(config.trainer.logger))
    for settings in [one.init_args for one in chosen if isinstance(one, Namespace) and one.get("init_args")]:
        for name, value in vars(settings).copy().items():
            if isinstance(value, Enum):  # `Timer`'s interval, for example
                settings[name] = value.value
            elif not isinstance(value, PLAIN):  # the default of `StochasticWeightAveraging`'s device
                del settings[name]
    text = str(parser.dump(config, skip_none=False, skip_validation=True))
    try:
        load_yaml(text)
    except yaml.MarkedYAMLError as error:
        line = text.splitlines()[error.problem_mark.line].strip() if error.problem_mark else ""
        raise InputError(f"{error.problem}, got {line}") from error
    except yaml.YAMLError as error:
        raise InputError(f"the options cannot be saved: {error}") from error
    return text


def tensorboard_settings(config: Namespace) -> dict[str, Any]:
    """The settings that TensorBoard compares runs by: the model's and the data's numbers and words, and the seed.
    Every run has the same ones, since TensorBoard takes the columns from one run; None stands for an unset value."""
    unrelated = ("num_classes", "data_dir", "compile", "cuda_graph", *DOWNLOAD_SETTINGS)
    settings = {"seed": config.seed_everything, "max_epochs": config.trainer.max_epochs, **config.model, **config.data}
    settings["network"] = config.model.network and config.model.network["class_path"]
    return {name: None if value == "" else value for name, value in settings.items() if name not in unrelated}


def as_list(value: Any) -> list[Any]:
    """The value as a list; Lightning accepts one item, a list or None."""
    return value if isinstance(value, list) else [] if value is None else [value]


def is_rank_zero() -> bool:
    """Whether this process is the one that writes; before the Trainer exists, only the environment tells."""
    return not rank_zero_only.rank and is_first_process()  # type: ignore[attr-defined]
