"""A shared checkpoint names no path of the machine it was made on."""

import torch
import yaml

from mnist_lit.runs.metadata import METADATA_KEY
from mnist_lit.runs.sharing import strip_for_sharing
from runs.contents import CONFIG, content


def test_a_shared_checkpoint_has_the_evaluated_weights_and_no_paths() -> None:
    weights = {"network.a": torch.ones(2, 3).T, "ema.a": torch.zeros(2, 3).T}
    hparams = {"num_classes": 2, "lr": 0.1, "init_from": "/me/runs/best.ckpt"}
    metadata = {**content()[METADATA_KEY], "config": CONFIG}
    full = {"state_dict": weights, "hyper_parameters": hparams, METADATA_KEY: metadata, "optimizer_states": [1]}
    shared = strip_for_sharing({**full, "global_step": 7, "epoch": 2, "pytorch-lightning_version": "2.6.6"})
    assert {*shared} == {"state_dict", "hyper_parameters", METADATA_KEY, "global_step", "epoch",
                         "pytorch-lightning_version"}  # fmt: skip
    assert [*shared["state_dict"]] == ["network.a"]
    assert shared["state_dict"]["network.a"].equal(weights["ema.a"])
    assert shared["state_dict"]["network.a"].is_contiguous()
    assert shared["hyper_parameters"] == {"num_classes": 2, "lr": 0.1, "init_from": "best.ckpt"}
    config = yaml.safe_load(shared[METADATA_KEY]["config"])
    assert config["data"] == {"val_size": 5}
    assert config["model"] == {**yaml.safe_load(CONFIG)["model"], "init_from": "best.ckpt"}
    assert "/me" not in str(shared)
    assert hparams["init_from"] == "/me/runs/best.ckpt"


def test_a_checkpoint_that_lacks_an_entry_can_be_shared() -> None:
    hparams = {"num_classes": 2, "init_from": 5}
    shared = strip_for_sharing({**content(), "hyper_parameters": hparams})
    assert {*shared} == {"state_dict", "hyper_parameters", METADATA_KEY, "global_step"}
    assert shared["hyper_parameters"] == {"num_classes": 2, "init_from": "5"}
