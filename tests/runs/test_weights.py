"""A checkpoint's weights are loaded where they fit, the averaged ones if there are any."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mnist_lit.errors import InputError
from mnist_lit.model import TutorialCNN
from mnist_lit.own_network import class_name
from mnist_lit.runs.checkpoint import save_checkpoint
from mnist_lit.runs.metadata import METADATA_KEY
from mnist_lit.runs.weights import (
    load_weights,
    network_of,
    require_network,
    trained_weights,
    warm_start,
    with_ema_weights,
)
from runs.contents import content


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit"):
        load_weights(nn.Linear(3, 1), content())


def test_missing_ema_weights_are_the_networks_own() -> None:
    one, two = torch.ones(2), torch.zeros(2)
    expected = ["network.a", "ema.a"]
    assert with_ema_weights({"network.a": one}, expected) == {"network.a": one, "ema.a": one}
    both = {"network.a": one, "ema.a": two}
    assert with_ema_weights(both, expected) == both
    assert with_ema_weights({"network.a": one}, ["network.a"]) == {"network.a": one}


def test_ema_weights_that_are_not_expected_replace_the_networks() -> None:
    one, two, three = torch.ones(2), torch.zeros(2), torch.ones(3)
    saved = {"network.a": one, "ema.a": two, "other": three}
    assert with_ema_weights(saved, ["network.a", "other"]) == {"network.a": two, "other": three}


def test_the_trained_weights_are_the_averaged_ones_if_there_are_any() -> None:
    one, two = torch.ones(2), torch.zeros(2)
    assert trained_weights({"state_dict": {"network.a.weight": one, "other": two}}) == {"a.weight": one}
    assert trained_weights({"state_dict": {"network.a.weight": one, "ema.a.weight": two}}) == {"a.weight": two}


class Own(nn.Sequential):
    """A network of your own."""

    def __init__(self, width: int = 4) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.Linear(width, 10))


def of_own_network(model: str) -> dict[str, Any]:
    """A checkpoint of a run that trained `Own`. model: the section of its configuration."""
    weights = {f"network.{name}": value for name, value in Own().state_dict().items()}
    hparams = {"num_classes": 10, "network": "my.models.Own"}
    metadata = {**content()[METADATA_KEY], "config": f"model: {model}\n"}
    return {"state_dict": weights, "hyper_parameters": hparams, METADATA_KEY: metadata}


def test_a_network_of_your_own_is_loaded_into_the_one_that_is_given() -> None:
    saved, network = of_own_network("{}"), Own()
    assert not network.get_parameter("1.weight").equal(saved["state_dict"]["network.1.weight"])
    assert network_of(saved, network) is network
    assert network.get_parameter("1.weight").equal(saved["state_dict"]["network.1.weight"])
    with pytest.raises(InputError, match="do not fit the network"):
        network_of(saved, Own(width=5))


def test_the_tutorials_network_needs_none() -> None:
    network = TutorialCNN(3)
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    saved = {**content(), "state_dict": weights, "hyper_parameters": {"num_classes": 3, "network": ""}}
    require_network(saved, None)
    found = network_of(saved)
    assert isinstance(found, TutorialCNN)
    assert all(value.equal(weights[f"network.{name}"]) for name, value in found.state_dict().items())


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (
            "{}",
            "--model.network my.models.Own, and --model.network.NAME VALUE for each argument that it was given in "
            "Python",
        ),
        ("{network: my.models.Own}", "--model.network my.models.Own"),
        (
            "{network: {class_path: my.models.Own, init_args: {width: 7}}}",
            "--model.network my.models.Own --model.network.width 7",
        ),
        ("{network: {class_path: my.models.Own, init_args: [1]}}", "--model.network my.models.Own"),
        (
            "{network: {class_path: my.models.Own, init_args: {day: 2020-01-01}}}",
            "--model.network my.models.Own --model.network.day '\"2020-01-01\"'",
        ),
    ],
    ids=["an instance", "a name", "arguments", "damaged arguments", "an argument that JSON does not know"],
)
def test_a_checkpoint_of_another_network_names_the_options_to_add(model: str, options: str) -> None:
    with pytest.raises(InputError, match=f"network is not the tutorial's; add {options}; in Python, pass network=Own"):
        network_of(of_own_network(model))


def test_the_class_of_a_network_is_stored_as_text() -> None:
    assert class_name(Own()) == f"{__name__}.Own"
    assert class_name(None) is class_name("") is None
    with pytest.raises(InputError, match=r"this checkpoint's network is my\.Own; load it with network=Own\(…\)"):
        class_name("my.Own")
    with pytest.raises(InputError, match=r"network: expected an instance, such as Own\(\), got its name as text"):
        class_name("Own")


def warm_started(weights: dict[str, torch.Tensor], network: nn.Module, folder: Path) -> nn.Module:
    save_checkpoint({**content(), "state_dict": {f"network.{k}": v for k, v in weights.items()}}, folder / "a.ckpt")
    warm_start([network], str(folder / "a.ckpt"))
    return network


def test_a_warm_start_takes_every_layer_that_fits_and_leaves_the_output_layer(tmp_path: Path) -> None:
    for classes in (10, 3):
        source, network = Own(), nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.Linear(4, classes))
        before = {name: value.clone() for name, value in network.state_dict().items()}
        after = warm_started(source.state_dict(), network, tmp_path).state_dict()
        expected = {**(source.state_dict() if classes == 10 else before)}
        expected |= {name: value for name, value in source.state_dict().items() if name.startswith("1.")}
        assert all(value.equal(expected[name]) for name, value in after.items())


def test_a_warm_start_from_another_network_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 5), nn.Linear(5, 10))
    with pytest.raises(InputError, match=r"model\.init_from: .* does not match this network: 1\.weight is missing or"):
        warm_started(Own().state_dict(), network, tmp_path)


def test_only_the_output_layer_may_be_missing_in_the_weights_to_start_from() -> None:
    wider, deeper, shorter = TutorialCNN(26), TutorialCNN(), TutorialCNN()
    warm_start([wider], "pretrained")
    assert not wider.fc2.weight[:10].equal(TutorialCNN(26).fc2.weight[:10])
    shorter.conv1 = nn.Conv2d(1, 32, 5, padding=1)
    with pytest.raises(InputError, match=r"does not match this network: conv1\.weight is missing or has a different"):
        warm_start([shorter], "pretrained")
    deeper.add_module("norm", nn.BatchNorm2d(3))
    with pytest.raises(InputError, match=r"norm\.weight is missing"):
        warm_start([deeper], "pretrained")
    del shorter.conv1
    with pytest.raises(InputError, match=r"this network, which has no conv1\.weight"):
        warm_start([shorter], "pretrained")
