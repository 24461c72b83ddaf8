"""The network to train: the tutorial's, or one of your own, which is checked first. torch only."""

from typing import Literal, TypeGuard, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_lit.errors import InputError, require_choice
from mnist_lit.model import TutorialCNN, standardize

InitName = Literal["default", "he"]


def he_init(network: nn.Module) -> None:
    """Kaiming-normal weights for ReLU, zero biases (He et al. 2015, "Delving Deep into Rectifiers", section 2.2).

    Draws from torch's global generator; the caller seeds it.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def is_tutorial(network: nn.Module) -> TypeGuard[TutorialCNN]:
    """Whether a network is exactly the tutorial's; a subclass counts as a network of your own."""
    return type(network) is TutorialCNN


def initialized(network: nn.Module | None, num_classes: int, init: InitName, seed: int) -> nn.Module:
    """The tutorial's network, or the given one, with weights that depend only on the arguments.

    `default` leaves a given network's weights as they are. torch's global generator is left alone.
    """
    require_choice("model.init", init, get_args(InitName))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if network is None:
            network = TutorialCNN(num_classes)
        else:
            _try_on_blank_images(network, num_classes)
        if init == "he":
            he_init(network)
    return to_channels_last(network)


def to_channels_last(network: nn.Module) -> nn.Module:
    """The tutorial's network in the faster memory layout for convolutions; others may need the default one."""
    return network.to(memory_format=torch.channels_last) if is_tutorial(network) else network


def log_probabilities(network: nn.Module, images: Tensor, num_classes: int) -> Tensor:
    """Log-probabilities (B, C) of images by any network, in its own precision.

    images: standardized float (B, 1, 28, 28), or uint8 (B, 28, 28) with 0 = paper, which are standardized here.
    Networks other than ours may return logits or log-probabilities: log-softmax turns logits into log-probabilities and
    leaves log-probabilities unchanged. Raises InputError for outputs of any other shape and, unless the network is your
    own, for other images.
    """
    x = standardize(images) if images.dtype == torch.uint8 else images
    if is_tutorial(network) and not (x.is_floating_point() and x.shape[1:] == (1, 28, 28)):
        got = f"{images.dtype} {tuple(images.shape)}"
        raise InputError(f"expected standardized float (B, 1, 28, 28) or uint8 (B, 28, 28), got {got}")
    x = x.to(next(network.parameters(), x).dtype)
    if is_tutorial(network):
        return network(x.contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]
    return F.log_softmax(_checked_output(network, x, num_classes), dim=1)


def _checked_output(network: nn.Module, x: Tensor, num_classes: int) -> Tensor:
    """The outputs (B, C) of a network of your own. Raises InputError for any other shape."""
    output = network(x)
    if not isinstance(output, Tensor) or output.shape != (x.shape[0], num_classes):  # len(x) would fix an export's size
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(f"model.network: expected outputs ({len(x)}, {num_classes}) for {len(x)} images, got {got}")
    return output


@torch.no_grad()
def _try_on_blank_images(network: nn.Module, num_classes: int) -> None:
    """Try a given network on two blank images. Raises InputError if it fails, or returns another shape or
    probabilities."""
    modes = {module: module.training for module in network.modules()}
    like = next(network.parameters(), torch.zeros(()))
    if like.is_meta:  # the weights have no values yet
        return
    x = torch.zeros(2, 1, 28, 28, dtype=like.dtype, device=like.device)
    try:
        output = _checked_output(network.eval(), x, num_classes)
    except InputError:
        raise
    except Exception as error:  # your own code may raise anything
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"model.network: failed on images (2, 1, 28, 28): {reason}") from error
    finally:
        for module, training in modes.items():
            module.training = training
    if (output >= 0).all() and output.sum(dim=1).allclose(torch.ones_like(output[:, 0])):
        raise InputError(
            "model.network: expected logits or log-probabilities, got probabilities; leave out the softmax"
        )


def class_name(network: nn.Module | str | None) -> str | None:
    """The class of a network of your own as text, `module.Class`; None for the tutorial's.

    Raises InputError if it is already text: then it was read from a checkpoint, and loading imports nothing.
    """
    if isinstance(network, str) and network:
        module, _, name = network.rpartition(".")
        if not module:
            raise InputError(f"network: expected an instance, such as {name}(), got its name as text")
        raise InputError(f"this checkpoint's network is {network}; load it with network={name}(…)")
    if isinstance(network, type):
        raise InputError(f"network: expected an instance, such as {network.__name__}(), got the class")
    if not isinstance(network, nn.Module | str | None):
        raise InputError(f"network: expected a torch.nn.Module, got {type(network).__name__}")
    if not isinstance(network, nn.Module) or is_tutorial(network):
        return None
    return f"{type(network).__module__}.{type(network).__qualname__}"
