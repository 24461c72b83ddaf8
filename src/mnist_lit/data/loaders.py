"""The order of an epoch and every random number of training, as pure functions of (seed, epoch, index).

Nothing here has a random state, so neither workers, devices nor resumes can change what a step sees. The loaders hand
out whole batches from memory and know order, shard and position. No files, no Lightning.
"""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from mnist_lit.data.keyed_random import permutation

__all__ = ["Batch", "EvalLoader", "TrainLoader", "shard"]


def shard(size: int, rank: int, world_size: int) -> slice:
    """What `rank` takes of a batch of `size`: the shards tile the batch, differ by one at most and may be empty.

    >>> [shard(8, rank, 3) for rank in range(3)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
    """
    return slice(size * rank // world_size, size * (rank + 1) // world_size)


class Batch(NamedTuple):
    """One process's shard of a step."""

    images: Tensor  # uint8 (B, 28, 28)
    labels: Tensor  # int64 (B,)
    indices: Tensor  # int64 (B,), places in the dataset's own files
    size: int  # images in the whole step, over all processes
    epoch: int | None  # None: evaluation, nothing is random


class EvalLoader:
    """Every image once, in the dataset's order, in whole batches from memory: for evaluation.

    images: uint8 (N, 28, 28); labels: int64 (N,), on the same device, where the batches will be; indices: int64 (M,),
    which of the N to hand out.
    `batch_size` counts the images of a step over all processes; each takes its unpadded shard.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, indices: Tensor, batch_size: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        self.images, self.labels, self.indices = images, labels, indices
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size

    def __len__(self) -> int:
        """Steps in an epoch."""
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = self.indices.to(self.images.device)
        for position in range(len(self)):
            yield self._batch(order, position, None)

    def size(self, position: int) -> int:
        """Images of a batch over all processes; the last may be smaller."""
        return min(self.batch_size, len(self.indices) - position * self.batch_size)

    def _batch(self, order: Tensor, position: int, epoch: int | None) -> Batch:
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        mine = chosen[shard(len(chosen), self.rank, self.world_size)]
        return Batch(self.images[mine], self.labels[mine], mine, len(chosen), epoch)


class TrainLoader(EvalLoader):
    """Every image once an epoch, in the order of (seed, epoch); a saved position continues where it stood.

    `shuffle=False` repeats one epoch's order, which Lightning's `overfit_batches` needs.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        indices: Tensor,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(images, labels, indices, batch_size, rank=rank, world_size=world_size)
        self.seed, self.shuffle = seed, shuffle
        self.epoch = self.position = 0
        self._resume = {"epoch": -1, "position": 0}

    @property
    def sampler(self) -> "TrainLoader":
        """Lightning calls `loader.sampler.set_epoch`, never `loader.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch from the next `iter` on."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches were handed out."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start that epoch, and no other, at that position."""
        self._resume = dict(state)

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch
        places = permutation(self.seed, epoch if self.shuffle else 0, len(self.indices))
        order = self.indices[places].to(self.images.device)
        start = self._resume["position"] if self._resume["epoch"] == epoch else 0
        self._resume = {"epoch": -1, "position": 0}
        for position in range(start, len(self)):
            self.position = position + 1
            yield self._batch(order, position, epoch)
