"""Checkpoints: what a file says of itself, whole saving and safe loading. No training.

A checkpoint carries its recipe, the data's fingerprint, versions and scores as plain scalars and strings, so that it
loads with `weights_only=True`: nothing in it can run code.
"""

import io
import platform
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import nn

from mnist_lit import __version__
from mnist_lit.errors import InputError
from mnist_lit.files import write_whole
from mnist_lit.network import TutorialCNN
from mnist_lit.recipes import LOCAL
from mnist_lit.runs import LAST, PREVIOUS

__all__ = [
    "KEY",
    "UNTOLD",
    "Files",
    "classes",
    "load",
    "load_weights",
    "network",
    "portable",
    "provenance",
    "save",
    "settings",
    "slim",
]

UNTOLD = ("data_dir", "default_root_dir", "dirpath", *LOCAL)  # what a file that goes to others does not say
KEY = "mnist_lit"  # where in the file `provenance` stands
WEIGHTS, AVERAGED = "network.", "ema."  # how the names of the weights, and of their moving average, begin


class Files(TorchCheckpointIO):
    """How Lightning's trainer writes and reads checkpoints here: whole, on this machine's own disks, running no code.

    `last.ckpt` goes to `previous.ckpt` when a new one is there. Lightning's own saving goes through the system's folder
    for temporary files, which may be on another disk, and is not flushed.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint. Raises OSError with its path, and then leaves the one before it as it was."""
        save(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:  # noqa: FBT001
        """Read one of ours to go on with; see `load`. Without `loops` Lightning would begin anew and say nothing."""
        content = load(path)
        if "loops" not in content:
            raise InputError(f"{path} does not say how far its training was")
        return content


def save(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint whole, see `Files`. Raises OSError with its path, and then leaves the one before as it was."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    try:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, buffer.getbuffer(), path.with_name(PREVIOUS) if path.name == LAST else None)
    except OSError as error:
        raise OSError(f"cannot save {path}: {error.strerror}") from error


def provenance(
    config: str,
    fingerprint: str,
    classes: Sequence[str],
    scores: Mapping[str, Any],
    curves: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What a checkpoint says of itself.

    config: the run's whole YAML; classes: what the outputs stand for; scores: name → number or scalar tensor; curves:
    file → its length, see `curves.cut`.
    """
    return {
        "config": config,
        "data": fingerprint,
        "classes": list(classes),
        "scores": {name: float(value) for name, value in scores.items()},
        "curves": dict(curves or {}),
        "versions": {
            "mnist-lit": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "lightning": lightning.__version__,
        },
    }


def load(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of ours onto the CPU. Raises InputError on any other file, in one line."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}")
    try:
        _verify(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign file's format; the refusal says enough
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file raises nearly anything
        raise InputError(f"{path} is no checkpoint that can be read safely ({type(error).__name__})") from error
    if not isinstance(content, dict) or not isinstance(content.get(KEY), dict) or "state_dict" not in content:
        raise InputError(f"{path} is no checkpoint of mnist-lit")
    given = content.get("hyper_parameters", {})
    if not isinstance(given, dict) or not all(isinstance(name, str) and name.isidentifier() for name in given):
        raise InputError(f"{path} is no checkpoint of mnist-lit: its hyper-parameters are damaged")
    if named := [name for name in given if name.startswith("_") or name in ("class_path", "init_args")]:
        raise InputError(f"{path} is no checkpoint of mnist-lit: {named[0]} would name code to run")
    return content


def _verify(path: Path) -> None:
    """Raise unless the file is a whole zip of stored entries: torch reads damaged bytes without a word."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise zipfile.BadZipFile("compressed, which torch never does; unpacked it may be of any size")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise zipfile.BadZipFile("entries that overlap")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} is damaged")


def settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that a checkpoint was trained with, as far as it is plain values.

    A string under `trainer` could name a class to import, so there only numbers and a few known words are taken.
    Raises InputError where it is damaged.
    """
    try:
        sections = {
            name: section for name, section in yaml.safe_load(content[KEY]["config"]).items() if section is not None
        }
        kept: dict[str, Any] = {"seed_everything": int(sections["seed_everything"])}
        kept |= {name: value for name, value in sections.items() if isinstance(value, int)}
        for name in ("model", "data", "trainer"):
            values = sections[name].items()
            kept[name] = {
                k: v
                for k, v in values
                if k not in LOCAL and (isinstance(v, int | float) or (isinstance(v, str) and _is_word(name, k)))
            }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise InputError("the checkpoint's own configuration is damaged") from error
    return kept


def _is_word(section: str, option: str) -> bool:
    return section != "trainer" or option in ("precision", "gradient_clip_algorithm", "max_time")


def classes(content: Mapping[str, Any]) -> tuple[str, ...]:
    """What the network's outputs stand for. Raises InputError where that is damaged."""
    try:
        count = int(content["hyper_parameters"]["num_classes"])
        names = content[KEY].get("classes") or [str(label) for label in range(count)]  # older files name none
        if len({*names}) != count or not all(isinstance(name, str) for name in names):
            raise ValueError
    except (LookupError, TypeError, ValueError) as error:
        raise InputError("the names of the checkpoint's classes are damaged") from error
    return tuple(names)


def load_weights(module: nn.Module, content: Mapping[str, Any]) -> None:
    """Put a checkpoint's weights into a module. Raises InputError where they do not fit.

    A file without averaged weights of its own, as `slim` makes it, holds these alone.
    """
    weights = dict(content["state_dict"])
    averaged = [name for name in module.state_dict() if name.startswith(AVERAGED)]
    if averaged and not any(name.startswith(AVERAGED) for name in weights):
        weights |= {name: weights.get(WEIGHTS + name.removeprefix(AVERAGED)) for name in averaged}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError("the checkpoint's weights do not fit the network that the options describe") from error


def network(content: Mapping[str, Any]) -> TutorialCNN:
    """The trained network of a checkpoint, by its averaged weights where there are. Raises InputError on damage."""
    try:
        weights = content["state_dict"]
        start = AVERAGED if any(name.startswith(AVERAGED) for name in weights) else WEIGHTS
        trained = TutorialCNN(int(content["hyper_parameters"]["num_classes"]))
        trained.load_state_dict({k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)})
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError("the checkpoint's weights do not fit the network") from error
    return trained.to(memory_format=torch.channels_last)


def slim(content: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint for others: the weights that are evaluated, and what it says of itself but for places."""
    trained = network(content).to(memory_format=torch.contiguous_format).state_dict()
    kept = {name: content[name] for name in ("hyper_parameters", "global_step", "epoch", "pytorch-lightning_version")}
    told = {**content[KEY], "config": portable(content[KEY]["config"])}
    kept["hyper_parameters"] = _without_places(kept["hyper_parameters"])
    return {**kept, KEY: told, "state_dict": {WEIGHTS + k: v for k, v in trained.items()}}


def portable(config: str) -> str:
    """A run's YAML without the places of the machine that it ran on."""
    return yaml.safe_dump(_without_places(yaml.safe_load(config)), sort_keys=False)


def _without_places(value: Any) -> Any:
    """Settings without what is `UNTOLD`, at any depth; of what a run started from, its last name."""
    if isinstance(value, dict):
        kept = {name: _without_places(inner) for name, inner in value.items() if name not in UNTOLD}
        return kept | {name: Path(kept[name]).name for name in ("init_from",) if kept.get(name)}
    return [_without_places(inner) for inner in value] if isinstance(value, list) else value
