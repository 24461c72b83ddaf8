"""Checkpoints: what a file says of itself, and safe loading. No training.

A checkpoint carries its recipe, the data's fingerprint, versions and scores as plain scalars and strings, so that it
loads with `weights_only=True`: nothing in it can run code.
"""

import platform
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from torch import nn

from mnist_lit import __version__
from mnist_lit.errors import InputError

__all__ = ["KEY", "LOCAL", "load", "load_weights", "provenance", "settings"]

LOCAL = ("mirrors", "timeout")  # settings of a place, not of a run: no file says which address is asked
KEY = "mnist_lit"  # where in the file `provenance` stands


def provenance(config: str, fingerprint: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself. config: the run's whole YAML; scores: name → number or scalar tensor."""
    return {
        "config": config,
        "data": fingerprint,
        "scores": {name: float(value) for name, value in scores.items()},
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign file's format; the refusal says enough
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file raises nearly anything
        raise InputError(f"{path} is no checkpoint that can be read safely ({type(error).__name__})") from error
    if not isinstance(content, dict) or not isinstance(content.get(KEY), dict) or "state_dict" not in content:
        raise InputError(f"{path} is no checkpoint of mnist-lit")
    return content


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
        kept |= {name: value for name, value in sections.items() if isinstance(value, bool)}
        for name in ("model", "data", "trainer"):
            values = sections[name].items()
            kept[name] = {
                k: v
                for k, v in values
                if k not in LOCAL and (isinstance(v, int | float) or (isinstance(v, str) and _is_word(name, k)))
            }
    except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise InputError("the checkpoint's own configuration is damaged") from error
    return kept


def _is_word(section: str, option: str) -> bool:
    return section != "trainer" or option in ("precision", "gradient_clip_algorithm", "max_time")


def load_weights(module: nn.Module, content: Mapping[str, Any]) -> None:
    """Put a checkpoint's weights into a module. Raises InputError where they do not fit."""
    try:
        module.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise InputError("the checkpoint's weights do not fit the network that the options describe") from error
