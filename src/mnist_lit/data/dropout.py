"""Dropout keyed by (seed, epoch, image): a resumed run, and one on more devices, drops the same features."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mnist_lit.data.keyed_random import DROPOUT, derived_seed, uniform
from mnist_lit.data.loaders import Batch
from mnist_lit.model import FEATURES
from mnist_lit.own_network import is_tutorial
from mnist_lit.system.distributed import rank_and_world_size


@contextmanager
def keyed_dropout(
    network: nn.Module, batch: Batch, batch_idx: int, *, seed: int, p: float, runs_once: bool = True
) -> Iterator[None]:
    """Inside the block, let a training batch's key determine which features the network drops.

    The dropout layers of a network of your own draw from torch's global generator, so the block seeds it for this
    batch: a resumed run draws the same numbers, but another number of devices draws different ones. So do those of the
    tutorial's network unless it runs once on the whole batch.
    """
    assert batch.epoch is not None
    if is_tutorial(network) and runs_once:
        if p:  # (B, 4096): 0 where a feature is dropped, else 1 / (1 - p)
            draws = uniform(seed, batch.epoch, batch.indices, FEATURES, stream=DROPOUT)
            network.dropout.mask = ((draws >= p) / (1 - p)).to(network.fc1.weight.dtype)
        try:
            yield
        finally:
            network.dropout.mask = None
        return
    rank, world_size = rank_and_world_size()
    device = batch.inputs.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # preserves the caller's random state
        torch.manual_seed(derived_seed(seed, batch.epoch, batch_idx * world_size + rank, stream=DROPOUT))
        yield
