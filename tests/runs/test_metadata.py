"""A checkpoint's metadata describe its run, and are read only if they are intact."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import plain
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.module import MNISTModule
from mnist_lit.runs.metadata import METADATA_KEY, Metadata, config_of
from mnist_lit.runs.versions import run_versions
from mnist_lit.system.yaml_file import load_yaml
from runs.contents import CONFIG, content


@pytest.mark.parametrize(
    "change",
    [{"classes": ["0", "0"]}, {"classes": ["0"]}, {"classes": ["0", 1]}, {"classes": ["0", "\x1b[2J"]},
     {"classes": None}, {"scores": None}, {"scores": {"val/acc": None}}, {"versions": None}, {"versions": {1: "2"}},
     {"curves": {"metrics.csv": "12"}}, {"curves": [1]}, {"config": 5}, {"config": "model: 5"}, {"data": 5}],
    ids=str,
)  # fmt: skip
def test_damaged_metadata_are_an_input_error(change: dict[str, Any]) -> None:
    damaged = {**content()[METADATA_KEY], **change}
    metadata = {name: value for name, value in damaged.items() if value is not None}
    Metadata.of(content())
    with pytest.raises(InputError, match=r"metadata is damaged|has 1 classes, not 2"):
        Metadata.of({**content(), METADATA_KEY: metadata})


def test_only_plain_settings_of_a_configuration_are_used() -> None:
    assert config_of({METADATA_KEY: {"config": CONFIG}}) == {
        "seed_everything": 3,
        "figures": True,
        "model": {"lr": 0.1, "optimizer": "sgd", "init_from": "/me/runs/best.ckpt"},
        "data": {"data_dir": "/me/data", "val_size": 5},
        "trainer": {"max_epochs": 2, "precision": "16-mixed", "max_time": "1"},
    }


SECTIONS = "\nmodel: {}\ndata: {}\ntrainer: {}"


@pytest.mark.parametrize(
    "config", ["[1]", "model: {}", f"seed_everything: x{SECTIONS}", f"seed_everything: .inf{SECTIONS}", "{"]
)
def test_a_damaged_configuration_is_an_input_error(config: str) -> None:
    with pytest.raises(InputError):
        config_of({METADATA_KEY: {"config": config}})


def of_trainer(datamodule: object, **options: Any) -> Metadata:
    trainer: Any = plain.trainer(**{"max_epochs": 3, "accumulate_grad_batches": 2, **options})
    trainer.datamodule = datamodule
    trainer.callback_metrics["val/acc"] = torch.tensor(0.5)
    return Metadata.of_trainer(trainer, MNISTModule(lr=0.25, seed=5).hparams)


def test_a_plain_trainers_checkpoint_describes_itself(digits_data: MNISTDataModule) -> None:
    metadata = of_trainer(digits_data)
    assert (metadata.data, metadata.classes) == (digits_data.fingerprint, tuple("0123456789"))
    assert metadata.scores == {"val/acc": 0.5}
    config = config_of({METADATA_KEY: metadata.to_dict()})
    assert (config["seed_everything"], config["trainer"]) == (
        5,
        {"max_epochs": 3, "accumulate_grad_batches": 2, "precision": "32-true"},
    )
    assert (config["model"]["lr"], config["data"]["dataset"], config["data"]["val_size"]) == (0.25, "digits", 180)
    linked = {"num_classes", "seed"}  # the command line would refuse them
    assert not linked & (config["model"].keys() | config["data"].keys())
    before = {"cpu": "2 × abacus"}
    resumed = replace(metadata, earlier=(before,))
    for one in (metadata, resumed):
        stored = {METADATA_KEY: one.to_dict(), "hyper_parameters": {"num_classes": 10}}
        assert Metadata.of(stored) == one
    assert resumed.history == (before, metadata.versions)
    again = Metadata.new("", "", [], {}, {}, [before, run_versions()])
    assert again.earlier == (before,)  # this machine is named once
    stored[METADATA_KEY]["earlier"] = ["abacus"]
    with pytest.raises(InputError, match="metadata is damaged"):
        Metadata.of(stored)


@pytest.mark.parametrize(
    ("options", "stored"),
    [
        ({"max_epochs": None, "max_steps": 7}, {"max_steps": 7}),  # else the run that is resumed from it has no end
        ({"limit_train_batches": 1}, {"max_epochs": 3, "limit_train_batches": 1}),
        ({"limit_train_batches": 0.5}, {"max_epochs": 3, "limit_train_batches": 0.5}),
        (
            {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"},
            {"max_epochs": 3, "gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"},
        ),
    ],
)
def test_what_decides_the_learning_of_a_plain_trainer_is_stored(options: Any, stored: dict[str, Any]) -> None:
    config = config_of({METADATA_KEY: of_trainer(None, **options).to_dict()})
    assert config["trainer"] == {"accumulate_grad_batches": 2, "precision": "32-true", **stored}


def test_other_data_has_no_fingerprint_and_numbered_classes() -> None:
    for datamodule in (None, object()):
        metadata = of_trainer(datamodule)
        assert (metadata.data, metadata.classes) == ("", tuple("0123456789"))
        assert config_of({METADATA_KEY: metadata.to_dict()})["data"] == {}


def test_a_plain_trainers_settings_are_stored_as_yaml_holds_them(digits_data: MNISTDataModule) -> None:
    settings = {"none": None, "flag": True, "whole": np.int64(3), "share": np.float32(0.5), "text": "a",
                "path": Path("b"), "odd": os.fsdecode(b"caf\xe9"), "worse": "\ud800", "object": object(),
                "num_classes": 3, "list": [1]}  # fmt: skip
    metadata = {"settings": settings, "fingerprint": "f00", "classes": ()}
    datamodule = SimpleNamespace(checkpoint_metadata=lambda: metadata)
    stored = of_trainer(datamodule)
    config = load_yaml(stored.config)
    assert config["data"] == {"none": None, "flag": True, "whole": 3, "share": 0.5, "text": "a", "path": "b",
                              "odd": "caf?", "worse": "?"}  # fmt: skip
    assert config["data"]["flag"] is True
    assert config["trainer"]["gradient_clip_val"] is None
    assert (stored.data, stored.classes, stored.curves) == ("f00", tuple("0123456789"), {})
