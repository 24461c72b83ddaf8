"""Where a run comes from: its recipe, data and versions, and the commands that reproduce it. No local paths."""

import inspect
import json
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.module import MNISTModule
from mnist_lit.optim import steps_per_epoch
from mnist_lit.runs.folders import (
    CONFIG_YAML,
    LOGS,
    began_and_saved,
    group_members,
    is_finished,
    recorded_command,
    run_name,
    run_number,
)
from mnist_lit.runs.metadata import Metadata, config_of
from mnist_lit.runs.recipes import LEARNING_SETTINGS, PRIVATE_SETTINGS, without_settings
from mnist_lit.runs.results import best_validation, trained_epochs
from mnist_lit.runs.sharing import portable_config, without_machine_paths
from mnist_lit.system.yaml_file import load_yaml

PATH_OPTIONS = ("--config", "-c", "--ckpt_path", "--model.init_from")
TRAINER_SETTINGS = (*LEARNING_SETTINGS, "max_time", "devices", "val_check_interval")  # the others concern logs


def provenance(
    folder: Path, members: Sequence[Path], content: Mapping[str, Any], data: MNISTDataModule
) -> dict[str, Any]:
    """How a run, or a group and its members, was made. folder: absolute, for its name; members: runs, or one of the
    folder's checkpoints; content: the first member's checkpoint; data: its data module, set up."""
    runs = [folder] if members[0].is_file() else members
    run, metadata, settings = runs[0], Metadata.of(content), config_of(content)
    (began, _), best = began_and_saved(run), best_validation(run)
    counts = {"train": len(data.train_indices), "val": len(data.val_indices)}
    batches = math.ceil(counts["train"] / settings["data"].get("batch_size", data.batch_size))
    accumulated, limit = (settings["trainer"].get(name) for name in ("accumulate_grad_batches", "limit_train_batches"))
    return {
        "recipe": _recipe(_recorded_words(folder)),
        "began": time.strftime("%Y-%m-%d", time.gmtime(began)) if began else None,
        "seconds": _seconds(runs),
        "epochs": trained_epochs(run),
        "finished": all(map(is_finished, runs)) if run.joinpath(CONFIG_YAML).exists() else None,
        "steps": int(content["global_step"]),
        "steps_per_epoch": steps_per_epoch(batches, accumulated or 1, limit),
        "seed": settings["seed_everything"],
        "validation": {"accuracy": best.acc, "epoch": best.epoch} if best else None,
        "data": {"dataset": data.dataset, "md5": metadata.data, **counts},
        "settings": _changed_settings(settings),
        "config": portable_config(metadata.config),
        "versions": metadata.versions,
        "earlier": _earlier_versions(metadata),
        "commands": _commands(folder, members, own_pictures=data.dataset == "folder"),
    }


def _recipe(words: Sequence[str]) -> str | None:
    """The names of a command's configs; None if it has none, or repeats a run from its config.yaml."""
    parts = [part for word in words for part in word.split("=", 1)]
    names = [Path(value).stem for option, value in pairwise(parts) if option in ("--config", "-c")]
    return " + ".join(names) if names and Path(CONFIG_YAML).stem not in names else None


def _seconds(members: Sequence[Path]) -> float | None:
    """From the start of the first run to the newest checkpoint of the last, by the files' dates; None without them."""
    began, ended = ([date for date in dates if date] for dates in zip(*map(began_and_saved, members), strict=True))
    return round(max(ended) - min(began), 1) if began and ended and max(ended) > min(began) else None


def _earlier_versions(metadata: Metadata) -> list[dict[str, str]]:
    """The old values of what changed at each resume on another machine or with other software."""
    now = metadata.versions
    return [{name: old for name, old in before.items() if old != now.get(name)} for before in metadata.earlier]


def _changed_settings(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    changed = []
    for section, made in (("model", MNISTModule), ("data", MNISTDataModule), ("trainer", Trainer)):
        defaults = inspect.signature(made).parameters
        for name, value in settings[section].items():
            default = defaults[name].default if name in defaults else None
            shown = name in TRAINER_SETTINGS if section == "trainer" else name not in ("seed", *PRIVATE_SETTINGS)
            if shown and value != default:
                changed.append({"name": f"{section}.{name}", "value": value, "default": default})
    return changed


def _commands(folder: Path, members: Sequence[Path], *, own_pictures: bool) -> list[str]:
    """The commands for training, if the run recorded it, for testing, and for this report."""
    is_group, name = bool(group_members(folder)), run_name(folder)
    path = f"{LOGS}/{name}"
    if members[0].is_file():
        in_run = folder.joinpath(CONFIG_YAML).is_file()
        path = name = f"{path}/{members[0].resolve().relative_to(folder)}" if in_run else members[0].name
    commands = [f"mnist-lit test {shlex.quote(path)}", f"mnist-lit report {shlex.quote(name)}"]
    if words := _recorded_words(folder):
        seeds = ["--seeds", ",".join(str(run_number(run, "seed")) for run in members)] if is_group else []
        commands.insert(0, shlex.join([*_portable(words, own_pictures=own_pictures), *seeds]))
    return commands


def _recorded_words(folder: Path) -> list[str]:
    with suppress(ValueError):  # unbalanced quotes: somebody has edited the file
        return shlex.split(recorded_command(folder))
    return []


def _portable(words: Sequence[str], *, own_pictures: bool) -> list[str]:
    """A command without the paths of the machine it ran on; files and a picture folder keep only their own name."""
    kept, rest = [], iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        is_path = name in PATH_OPTIONS or (own_pictures and name == "--data.data_dir")
        is_private = name.startswith("--") and name.rpartition(".")[2].lstrip("-") in PRIVATE_SETTINGS
        if is_path or is_private:
            value = value if equals else next(rest, "")
            kept += [name, Path(value).name] if is_path else []
        else:
            kept.append(f"{name}={_without_paths(value)}" if equals else _without_paths(word))
    return kept


def _without_paths(value: str) -> str:
    """A word of a command, or an option's value, without the paths of the machine: a file keeps its own name, a section
    of options or a class's arguments lose them."""
    if Path(value).is_absolute() or value.startswith("~"):
        return Path(value).name
    with suppress(ValueError, yaml.YAMLError):
        content = load_yaml(value)
        if isinstance(content, dict) and (kept := without_machine_paths(content)) != content:
            return json.dumps(kept, default=str)
        if isinstance(content, list) and (parts := without_settings(content, PRIVATE_SETTINGS)) != content:
            return json.dumps(parts, default=str)
    return value
