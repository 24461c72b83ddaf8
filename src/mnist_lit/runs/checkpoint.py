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
from mnist_lit.model import TutorialCNN
from mnist_lit.runs.folders import LAST_CKPT, PREVIOUS_CKPT
from mnist_lit.runs.recipes import NETWORK_SETTINGS
from mnist_lit.system.atomic_file import write_atomic

__all__ = [
    "METADATA_KEY",
    "NOT_SHARED",
    "AtomicCheckpointIO",
    "class_names_of",
    "config_of",
    "load_checkpoint",
    "load_weights",
    "metadata",
    "network_of",
    "portable_config",
    "save_checkpoint",
    "strip_for_sharing",
]

NOT_SHARED = (
    "data_dir",
    "default_root_dir",
    "dirpath",
    *NETWORK_SETTINGS,
)  # what a file that goes to others does not say
METADATA_KEY = "mnist_lit"  # where in the file `provenance` stands
NETWORK_PREFIX, EMA_PREFIX = "network.", "ema."  # how the names of the weights, and of their moving average, begin


class AtomicCheckpointIO(TorchCheckpointIO):
    """How Lightning's trainer writes and reads checkpoints here: whole, on this machine's own disks, running no code.

    `last.ckpt` goes to `previous.ckpt` when a new one is there. Lightning's own saving goes through the system's folder
    for temporary files, which may be on another disk, and is not flushed.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint. Raises OSError with its path, and then leaves the one before it as it was."""
        save_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:  # noqa: FBT001
        """Read one of ours to go on with; see `load`. Without `loops` Lightning would begin anew and say nothing."""
        content = load_checkpoint(path)
        if "loops" not in content:
            raise InputError(f"{path} does not say how far its training was")
        return content


def save_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint whole, see `Files`. Raises OSError with its path, and then leaves the one before as it was."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, buffer.getbuffer(), path.with_name(PREVIOUS_CKPT) if path.name == LAST_CKPT else None)
    except OSError as error:
        raise OSError(f"cannot save {path}: {error.strerror}") from error


def metadata(
    config: str,
    fingerprint: str,
    classes: Sequence[str],
    scores: Mapping[str, Any],
    curves: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What a checkpoint says of itself.

    config: the run's whole YAML; classes: what the outputs stand for; scores: name → number or scalar tensor; curves:
    file → its length, see `truncate_logs`.
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


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of ours onto the CPU. Raises InputError on any other file, in one line."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}")
    try:
        _check_zip(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign file's format; the refusal says enough
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file raises nearly anything
        raise InputError(f"{path} is no checkpoint that can be read safely ({type(error).__name__})") from error
    if not isinstance(content, dict) or not isinstance(content.get(METADATA_KEY), dict) or "state_dict" not in content:
        raise InputError(f"{path} is no checkpoint of mnist-lit")
    given = content.get("hyper_parameters", {})
    if not isinstance(given, dict) or not all(isinstance(name, str) and name.isidentifier() for name in given):
        raise InputError(f"{path} is no checkpoint of mnist-lit: its hyper-parameters are damaged")
    if named := [name for name in given if name.startswith("_") or name in ("class_path", "init_args")]:
        raise InputError(f"{path} is no checkpoint of mnist-lit: {named[0]} would name code to run")
    return content


def _check_zip(path: Path) -> None:
    """Raise unless the file is a whole zip of stored entries: torch reads damaged bytes without a word."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise zipfile.BadZipFile("compressed, which torch never does; unpacked it may be of any size")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise zipfile.BadZipFile("entries that overlap")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} is damaged")


def config_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that a checkpoint was trained with, as far as it is plain values.

    A string under `trainer` could name a class to import, so there only numbers and a few known words are taken.
    Raises InputError where it is damaged.
    """
    try:
        sections = {
            name: section
            for name, section in yaml.safe_load(content[METADATA_KEY]["config"]).items()
            if section is not None
        }
        kept: dict[str, Any] = {"seed_everything": int(sections["seed_everything"])}
        kept |= {name: value for name, value in sections.items() if isinstance(value, int)}
        for name in ("model", "data", "trainer"):
            values = sections[name].items()
            kept[name] = {
                k: v
                for k, v in values
                if k not in NETWORK_SETTINGS
                and (isinstance(v, int | float) or (isinstance(v, str) and _is_word(name, k)))
            }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise InputError("the checkpoint's own configuration is damaged") from error
    return kept


def _is_word(section: str, option: str) -> bool:
    return section != "trainer" or option in ("precision", "gradient_clip_algorithm", "max_time")


def class_names_of(content: Mapping[str, Any]) -> tuple[str, ...]:
    """What the network's outputs stand for. Raises InputError where that is damaged."""
    try:
        count = int(content["hyper_parameters"]["num_classes"])
        names = content[METADATA_KEY].get("classes") or [str(label) for label in range(count)]  # older files name none
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
    averaged = [name for name in module.state_dict() if name.startswith(EMA_PREFIX)]
    if averaged and not any(name.startswith(EMA_PREFIX) for name in weights):
        weights |= {name: weights.get(NETWORK_PREFIX + name.removeprefix(EMA_PREFIX)) for name in averaged}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError("the checkpoint's weights do not fit the network that the options describe") from error


def network_of(content: Mapping[str, Any]) -> TutorialCNN:
    """The trained network of a checkpoint, by its averaged weights where there are. Raises InputError on damage."""
    try:
        weights = content["state_dict"]
        start = EMA_PREFIX if any(name.startswith(EMA_PREFIX) for name in weights) else NETWORK_PREFIX
        trained = TutorialCNN(int(content["hyper_parameters"]["num_classes"]))
        trained.load_state_dict({k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)})
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError("the checkpoint's weights do not fit the network") from error
    return trained.to(memory_format=torch.channels_last)


def strip_for_sharing(content: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint for others: the weights that are evaluated, and what it says of itself but for places."""
    trained = network_of(content).to(memory_format=torch.contiguous_format).state_dict()
    kept = {name: content[name] for name in ("hyper_parameters", "global_step", "epoch", "pytorch-lightning_version")}
    told = {**content[METADATA_KEY], "config": portable_config(content[METADATA_KEY]["config"])}
    kept["hyper_parameters"] = _without_machine_paths(kept["hyper_parameters"])
    return {**kept, METADATA_KEY: told, "state_dict": {NETWORK_PREFIX + k: v for k, v in trained.items()}}


def portable_config(config: str) -> str:
    """A run's YAML without the places of the machine that it ran on."""
    return yaml.safe_dump(_without_machine_paths(yaml.safe_load(config)), sort_keys=False)


def _without_machine_paths(value: Any) -> Any:
    """Settings without what is `UNTOLD`, at any depth; of what a run started from, its last name."""
    if isinstance(value, dict):
        kept = {name: _without_machine_paths(inner) for name, inner in value.items() if name not in NOT_SHARED}
        return kept | {name: Path(kept[name]).name for name in ("init_from",) if kept.get(name)}
    return [_without_machine_paths(inner) for inner in value] if isinstance(value, list) else value
