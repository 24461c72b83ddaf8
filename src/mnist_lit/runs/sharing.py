"""Checkpoints and configurations to share: without this machine's paths."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mnist_lit.runs.metadata import METADATA_KEY, with_metadata
from mnist_lit.runs.recipes import PRIVATE_SETTINGS, without_settings
from mnist_lit.runs.weights import NETWORK_PREFIX, trained_weights
from mnist_lit.system.yaml_file import load_yaml


def strip_for_sharing(content: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint for others: the weights used for evaluation, and the metadata without this machine's paths."""
    weights = {NETWORK_PREFIX + name: value.contiguous() for name, value in trained_weights(content).items()}
    names = ("hyper_parameters", "global_step", "epoch", "pytorch-lightning_version", METADATA_KEY)
    kept = {name: content[name] for name in names if name in content} | {"state_dict": weights}
    kept["hyper_parameters"] = without_machine_paths(kept["hyper_parameters"])
    return with_metadata(kept, config=portable_config(content[METADATA_KEY]["config"]))


def portable_config(config: str) -> str:
    """A run's YAML without the paths and addresses of the machine that it ran on."""
    return yaml.safe_dump(without_machine_paths(load_yaml(config)), sort_keys=False)


def without_machine_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without `PRIVATE_SETTINGS`, and only the name of the model that a run started from."""
    kept: dict[str, Any] = without_settings(settings, PRIVATE_SETTINGS)
    for section in (kept, kept.get("model")):
        if isinstance(section, dict) and section.get("init_from"):
            section["init_from"] = Path(str(section["init_from"])).name
    return kept
