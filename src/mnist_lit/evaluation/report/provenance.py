"""Where a run comes from: its recipe, the data, the versions, and the commands that make it again. Names no place."""

import inspect
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.module import MNISTModule
from mnist_lit.runs.checkpoint import METADATA_KEY, NOT_SHARED, config_of, portable_config
from mnist_lit.runs.folders import LOGS, run_name, run_number
from mnist_lit.runs.results import best_validation, completed_epochs

__all__ = ["provenance"]

FILES = ("--config", "-c", "--ckpt_path", "--model.init_from")
TRAINER = (  # settings of Lightning's trainer that say what was learnt
    "max_epochs",
    "max_steps",
    "max_time",
    "precision",
    "devices",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "limit_train_batches",
    "val_check_interval",
)


def provenance(
    folder: Path, members: Sequence[Path], content: Mapping[str, Any], data: MNISTDataModule
) -> dict[str, Any]:
    """What the report of a run, or of a group and its members, says of how it was made.

    folder: absolute, for its name; content: the first member's checkpoint; data: set up as it was then.
    """
    run, told = members[0], content[METADATA_KEY]
    config, settings = run / "config.yaml", config_of(content)
    best = best_validation(run)
    assert data.digits
    return {
        "began": time.strftime("%Y-%m-%d", time.gmtime(config.stat().st_mtime)) if config.is_file() else None,
        "epochs": completed_epochs(run),
        "steps": int(content["global_step"]),
        "seed": settings["seed_everything"],
        "validation": {"accuracy": best[0], "epoch": best[1]} if best else None,
        "data": {
            "dataset": data.dataset,
            "md5": told["data"],
            "train": len(data.train_indices),
            "val": len(data.val_indices),
        },
        "settings": _chosen(settings),
        "config": portable_config(told["config"]),
        "versions": told["versions"],
        "commands": _commands(folder, members, own=data.dataset == "folder"),
    }


def _chosen(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings that are not their defaults."""
    found = []
    for section, made in (("model", MNISTModule), ("data", MNISTDataModule), ("trainer", Trainer)):
        defaults = inspect.signature(made).parameters
        for name, value in settings[section].items():
            default = defaults[name].default if name in defaults else None
            shown = (section != "trainer" or name in TRAINER) and name not in ("seed", *NOT_SHARED)
            if shown and value != default:
                found.append({"name": f"{section}.{name}", "value": value, "default": default})
    return found


def _commands(folder: Path, members: Sequence[Path], *, own: bool) -> list[str]:
    """Training, where the run remembers how; testing; this report."""
    is_group = folder != members[0].resolve()
    found, line = [], ""
    with suppress(OSError, UnicodeDecodeError):
        file = folder / "group.txt" if is_group else folder / "config.yaml"
        line = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    if line.startswith("mnist-lit "):
        seeds = ["--seeds", ",".join(str(run_number(run, "seed")) for run in members)] if is_group else []
        found.append(shlex.join([*_without_places(shlex.split(line), own=own), *seeds]))
    place = shlex.quote(f"{LOGS}/{run_name(folder)}")
    return [*found, f"mnist-lit test --ckpt_path {place}", f"mnist-lit report {shlex.quote(run_name(folder))}"]


def _without_places(words: Sequence[str], *, own: bool) -> list[str]:
    """A command without the options that name places of the machine that it ran on.

    Of a file it keeps the last name, and of the folder of one's own pictures.
    """
    kept, given = [], iter(words)
    for word in given:
        name, equals, value = word.partition("=")
        if name in FILES or (own and name == "--data.data_dir"):
            kept += [name, Path(value if equals else next(given, "")).name]
        elif name.startswith("--") and name.rpartition(".")[2].lstrip("-") in NOT_SHARED:
            if not equals:
                next(given, None)
        else:
            kept.append(word)
    return kept
