"""The shipped recipes by name, and the settings that belong to a machine rather than to a recipe."""

import os
import shlex
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from mnist_lit.errors import InputError
from mnist_lit.system.console import printable
from mnist_lit.system.error_messages import did_you_mean

# Settings of the machine that a recipe runs on. They are not part of the recipe: a run resumes, and a sweep continues,
# whatever their values.
HARDWARE_SETTINGS = ("accelerator", "devices", "num_nodes", "strategy")
PATH_SETTINGS = ("default_root_dir", "data_dir", "save_dir", "dirpath")  # the last two are of loggers and callbacks
DOWNLOAD_SETTINGS = ("mirrors", "timeout")
PRIVATE_SETTINGS = (*PATH_SETTINGS, *DOWNLOAD_SETTINGS)  # removed before a checkpoint or a report is shared
# Settings of the trainer that decide what is learned, see also `trainer.max_time`.
LEARNING_SETTINGS = (
    *("max_epochs", "max_steps", "accumulate_grad_batches", "precision"),
    *("gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches"),
)
# Options of one invocation of `fit`, which no recipe holds and no sweep passes on.
INVOCATION_OPTIONS = ("ckpt_path", "resume", "seeds", "seeds_at_once", "group", "run")
MAX_DIFFERENCES = 3  # shown between two recipes


def recipes_dir() -> Path:
    """The folder of the shipped recipes: inside the package in a wheel, beside `src` in a checkout."""
    installed = Path(__file__).parents[1] / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "configs"


def recipe_names() -> list[str]:
    """The shipped recipes' names."""
    return sorted(path.stem for path in recipes_dir().glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """The config at a path, or the shipped recipe of that name. Raises InputError if there is neither."""
    paths = (Path(name), recipes_dir() / f"{name}.yaml")
    found = [path for path in paths if os.path.lexists(path)]  # none for a name that is too long
    for path in found:
        if path.is_file():
            return path
    names = recipe_names()
    if any(path.is_dir() for path in found):
        raise InputError(f"{Path(name)} is a folder, not a config (recipes: {', '.join(names)})")
    raise InputError(f"no config at {name}{did_you_mean(Path(name).stem, names)} (recipes: {', '.join(names)})")


def recipe_name(arg: str) -> str:
    """The name of the shipped recipe at this path; any other argument unchanged."""
    return {str(recipes_dir() / f"{name}.yaml"): name for name in recipe_names()}.get(arg, arg)


def command_line(args: Iterable[str]) -> str:
    """A command as a person would type it, with recipes by name. Raises InputError unless it is one line of text, which
    can be a comment in config.yaml.

    >>> command_line(["fit", "--config", "fast", "--data.data_dir", "my data"])
    "mnist-lit fit --config fast --data.data_dir 'my data'"
    """
    return shlex.join(["mnist-lit", *(_one_line(before, recipe_name(arg)) for before, arg in pairwise(["", *args]))])


def _one_line(before: str, arg: str) -> str:
    """An argument with a list or section of several lines joined into one."""
    option, equals, value = arg.partition("=") if arg.startswith("--") else (before, "", arg)
    line = " ".join(value.splitlines())
    if line != value:
        import yaml  # takes a quarter of the time of `mnist-lit --help`

        from mnist_lit.system.yaml_file import load_yaml

        with suppress(yaml.YAMLError):
            if isinstance(content := load_yaml(value), list | dict) and load_yaml(line) == content:
                arg = f"{option}={line}" if equals else line
    if printable(arg, keep="\t") != arg:
        hint = "write it in one line, or in a file for --config"
        raise InputError(f"{option}: expected no line breaks and control characters, got {value!a}; {hint}")
    return arg


def recipe_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as a flat mapping from option to value, without the machine settings and, in the arguments of
    callbacks, loggers and profilers, without paths.

    >>> recipe_options({"seed_everything": 0, "data": {"val_size": 5000, "data_dir": "data"}})
    {'seed_everything': 0, 'data.val_size': 5000}
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    machine = (*HARDWARE_SETTINGS, *PRIVATE_SETTINGS)
    kept = {option: value for option, value in flat.items() if option.rpartition(".")[2] not in machine}
    parts = ("trainer.callbacks", "trainer.logger", "trainer.profiler")
    return kept | {option: without_settings(kept[option], PATH_SETTINGS) for option in parts if option in kept}


def differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """The first differences between two recipes, see `recipe_options`; empty if they are the same.

    >>> differences({"model.lr": 0.1, "data.val_size": 5000}, {"model.lr": 0.2, "data.val_size": 5000})
    'model.lr 0.1, not 0.2'
    """
    pairs = {name: (theirs.get(name), mine.get(name)) for name in sorted({*theirs, *mine}, key=str)}
    found = [f"{name} {before}, not {now}" for name, (before, now) in pairs.items() if before != now]
    more = f" and {len(found) - MAX_DIFFERENCES} more" if len(found) > MAX_DIFFERENCES else ""
    return "; ".join(found[:MAX_DIFFERENCES]) + more


def without_settings(value: Any, names: Collection[str]) -> Any:
    """A configuration, or a part of one, without the settings of these names at any depth.

    >>> without_settings([{"init_args": {"dirpath": "/tmp", "monitor": "val/acc"}}], ["dirpath"])
    [{'init_args': {'monitor': 'val/acc'}}]
    """
    if isinstance(value, Mapping):
        return {name: without_settings(inner, names) for name, inner in value.items() if name not in names}
    return [without_settings(inner, names) for inner in value] if isinstance(value, list) else value
