"""Dropout keyed by (seed, epoch, image), so that a resumed run or another number of devices drops the same features."""

import torch
from torch import nn

from mnist_lit.data.keyed_random import DROPOUT, derived_seed, uniform
from mnist_lit.data.loaders import Batch
from mnist_lit.model import FEATURES, TutorialCNN
from mnist_lit.system.distributed import rank_and_world_size


def draw_dropout(network: nn.Module, batch: Batch, batch_idx: int, *, seed: int, p: float) -> None:
    """Set what a network drops in its next pass over a training batch.

    The dropout layers of a network of your own draw from torch's global generator, so that is seeded: the same numbers
    after a resume, but others on another number of devices.
    """
    assert batch.epoch is not None
    if not isinstance(network, TutorialCNN):
        rank, world_size = rank_and_world_size()
        torch.manual_seed(derived_seed(seed, batch.epoch, batch_idx * world_size + rank, stream=DROPOUT))
    elif p:  # (B, 4096): 0 where a feature is dropped, else 1 / (1 - p)
        draws = uniform(seed, batch.epoch, batch.indices, FEATURES, stream=DROPOUT)
        network.dropout.mask = ((draws >= p) / (1 - p)).to(network.fc1.weight.dtype)
