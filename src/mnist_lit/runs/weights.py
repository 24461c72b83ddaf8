"""A checkpoint's weights: load them into a module, a bare network, or another network to start from."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from mnist_lit.errors import InputError
from mnist_lit.model import TutorialCNN
from mnist_lit.own_network import class_name, to_channels_last
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.locate import locate_model
from mnist_lit.runs.metadata import METADATA_KEY
from mnist_lit.system.yaml_file import load_yaml

NETWORK_PREFIX, EMA_PREFIX = "network.", "ema."  # of the names in `state_dict`


def load_weights(module: nn.Module, content: Mapping[str, Any]) -> None:
    """Load a checkpoint's weights into a module. Raises InputError if they do not fit.

    A file without EMA weights, such as one by `strip_for_sharing`, holds only the weights used for evaluation.
    """
    try:
        module.load_state_dict(with_ema_weights(content["state_dict"], module.state_dict()))
    except (RuntimeError, TypeError) as error:
        raise InputError(_misfit(content)) from error


def _misfit(content: Mapping[str, Any]) -> str:
    options = network_options(content)
    trained = f"; it was trained with {options}{_unstored_arguments(content)}" if options else ""
    return f"the checkpoint's weights do not fit the network that the options describe{trained}"


def with_ema_weights(weights: Mapping[str, Any], expected: Iterable[str]) -> dict[str, Any]:
    """A checkpoint's weights; EMA weights that are expected but missing are copied from the network's, and those that
    are not expected replace the network's: they are the ones used for evaluation."""
    averaged = [name for name in expected if name.startswith(EMA_PREFIX)]
    stored = [name for name in weights if name.startswith(EMA_PREFIX)]
    if averaged and not stored:
        return {**weights, **{name: weights.get(NETWORK_PREFIX + name.removeprefix(EMA_PREFIX)) for name in averaged}}
    if stored and not averaged:
        others = {name: value for name, value in weights.items() if name not in stored}
        return {**others, **{NETWORK_PREFIX + name.removeprefix(EMA_PREFIX): weights[name] for name in stored}}
    return dict(weights)


def trained_weights(content: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's trained weights by their names in the network; the EMA weights if it has any."""
    weights = content["state_dict"]
    prefix = EMA_PREFIX if any(name.startswith(EMA_PREFIX) for name in weights) else NETWORK_PREFIX
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def network_of(content: Mapping[str, Any], network: nn.Module | None = None) -> nn.Module:
    """A checkpoint's trained network, using the EMA weights if it has any. Raises InputError if it is damaged.

    network: where to load the weights if it is not the tutorial's network.
    """
    class_name(network)  # raises InputError for a class
    require_network(content, network)
    if network is None:
        network = TutorialCNN(content["hyper_parameters"]["num_classes"])
    network.float()  # whatever precision it was trained in
    try:
        network.load_state_dict(trained_weights(content))
    except (RuntimeError, TypeError) as error:
        raise InputError(_misfit(content)) from error
    return to_channels_last(network)


def network_options(content: Mapping[str, Any]) -> str:
    """The options that name a checkpoint's network; empty for the tutorial's.

    The checkpoint stores its class's name and arguments as text, so loading never imports anything.
    """
    if not (name := content.get("hyper_parameters", {}).get("network")):
        return ""
    settings = load_yaml(content[METADATA_KEY]["config"]).get("model", {}).get("network")
    args = settings.get("init_args") if isinstance(settings, dict) else None
    options = ["--model.network", str(name)]
    for key, value in (args if isinstance(args, dict) else {}).items():
        options += [f"--model.network.{key}", value if isinstance(value, str) else json.dumps(value, default=str)]
    return shlex.join(options)


def require_network(content: Mapping[str, Any], network: object | None) -> None:
    """Raise InputError if a checkpoint's network is not the tutorial's and `network` is None."""
    if network is None and (options := network_options(content)):
        name = content["hyper_parameters"]["network"].rpartition(".")[2]
        added = f"add {options}{_unstored_arguments(content)}; in Python, pass network={name}(…)"
        raise InputError(f"this checkpoint's network is not the tutorial's; {added}")


def _unstored_arguments(content: Mapping[str, Any]) -> str:
    """What to add to `network_options` of a network that was passed as an instance: only its class is known."""
    stored = load_yaml(content[METADATA_KEY]["config"]).get("model", {}).get("network")
    return "" if stored else ", and --model.network.NAME VALUE for each argument that it was given in Python"


def warm_start(networks: Sequence[nn.Module], model: str) -> None:
    """Load a trained model's weights into networks; the output layer only if the number of classes matches.

    model: a checkpoint, a run, `latest`, `last` or `pretrained`. Raises InputError if there is no such model.
    """
    weights = trained_weights(load_checkpoint(locate_model(model)))
    for network in networks:
        own = network.state_dict()
        fits = {name: value for name, value in weights.items() if name in own and value.shape == own[name].shape}
        missing = [name for name in own if name not in fits]
        layers = {name.rpartition(".")[0] for name in missing}
        unlike = [name for name in missing if name not in weights or weights[name].shape[1:] != own[name].shape[1:]]
        if unlike or len(layers) > 1:  # otherwise it is the output layer, for another number of classes
            reason = f"{(missing if len(layers) > 1 else unlike)[0]} is missing or has a different shape"
            raise InputError(f"model.init_from: {model} does not match this network: {reason}")
        if unknown := [name for name in weights if name not in own]:
            raise InputError(f"model.init_from: {model} does not match this network, which has no {unknown[0]}")
        network.load_state_dict({k: v for k, v in fits.items() if k.rpartition(".")[0] not in layers}, strict=False)
