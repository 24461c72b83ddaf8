"""Whole batches from images in memory, in an order that depends only on (seed, epoch).

`batch_size` counts the images of a step over all processes, the global batch, so a recipe means the same on any number
of devices. Every process computes the same order and takes its own contiguous slice of each batch. The slices are not
padded: torch's DistributedSampler repeats images until all ranks have equally many, so some images count twice in a
score and steps differ from those on one device. Here slices may differ by one image or be empty, and `Batch.size`
carries the size of the global batch, by which every process divides its sums. There are no DataLoader workers:
indexing a tensor in memory is faster than passing batches between processes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mnist_lit.data.keyed_random import permutation
from mnist_lit.errors import require
from mnist_lit.model import MEAN, STD, standardize
from mnist_lit.system.distributed import rank_and_world_size

Augment = Callable[[Tensor, Tensor, Tensor, int | Tensor], Tensor]  # images, labels, indices, epoch → images


def shard(size: int, rank: int, world_size: int) -> slice:
    """The slice of a batch of `size` that belongs to `rank`: slices tile the batch and differ by at most one image.

    >>> [shard(8, rank, 3) for rank in range(3)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
    """
    return slice(size * rank // world_size, size * (rank + 1) // world_size)


@dataclass(eq=False)
class Batch:
    """One process's shard of a step. `x, y = batch` unpacks inputs and labels; the rest are attributes.

    Not a tuple: Lightning rebuilds tuples when it moves or casts a batch, and would lose the attributes.
    """

    inputs: Tensor  # float32 (B, 1, 28, 28), standardized
    labels: Tensor  # int64 (B,)
    indices: Tensor  # int64 (B,), positions in the dataset's files
    size: int  # images in the global batch, over all processes
    epoch: int | Tensor | None = None  # None for evaluation, which uses no random numbers

    @classmethod
    def of(cls, batch: "Batch | Sequence[Tensor]", epoch: int | None = None, batch_idx: int = 0) -> "Batch":
        """One of our batches unchanged; `x, y` from any other loader, with indices that no other batch has."""
        if isinstance(batch, Batch):
            return batch if epoch is None or batch.epoch is not None else replace(batch, epoch=epoch)
        parts = list(batch)
        if len(parts) != 2 or not all(isinstance(part, Tensor) for part in parts):
            kinds = ", ".join(type(part).__name__ for part in parts[:3]) + ", …" * (len(parts) > 3)
            raise TypeError(f"expected a batch x, y of images and labels, got a {type(batch).__name__} of {kinds}")
        inputs, labels = parts
        rank, world_size = rank_and_world_size()
        first = (batch_idx * world_size + rank) << 20  # no batch is that large
        indices = torch.arange(first, first + len(labels), device=labels.device)
        return cls(inputs, labels, indices, len(labels) * world_size, epoch)

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.inputs, self.labels))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, position: int) -> Tensor:
        return (self.inputs, self.labels)[position]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The batch on a device: Lightning calls this if the images are not there already."""
        if self.indices.device == torch.device(device):
            return self
        inputs, labels, indices = (
            part.to(device, non_blocking=non_blocking) for part in (self.inputs, self.labels, self.indices)
        )
        return Batch(inputs, labels, indices, self.size, self.epoch)

    @property
    def images(self) -> Tensor:
        """The inputs as 8-bit images, uint8 (B, 28, 28), 0 = paper."""
        if self.inputs.dtype == torch.uint8:
            return self.inputs
        return self.inputs[:, 0].float().mul(STD).add(MEAN).mul(255).round().clamp(0, 255).to(torch.uint8)


@dataclass(eq=False, repr=False)
class EvalLoader:
    """Every image once, in the order of `indices`. Batches are on the device of `images`."""

    images: Tensor  # uint8 (N, 28, 28)
    labels: Tensor  # int64 (N,), on the same device
    indices: Tensor  # int64 (M,), which of the N images to load
    batch_size: int  # over all processes
    _: KW_ONLY
    rank_and_world_size: Callable[[], tuple[int, int]] = rank_and_world_size  # called late: DDP may not have started

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)  # steps per epoch

    def __iter__(self) -> Iterator[Batch]:
        order = self.indices.to(self.images.device)
        for position in range(len(self)):
            mine, size = self._own_shard(order, position)
            yield self.batch(mine, size)

    def batch(self, indices: Tensor, size: int) -> Batch:
        """The images at these positions, int64 (B,), as this process's shard of a step of `size` images."""
        return Batch(standardize(self.images[indices]), self.labels[indices], indices, size)

    def images_in(self, first: int, stop: int) -> int:
        """Images of the batches first … stop - 1, over all processes; the last batch may be smaller."""
        return min(stop * self.batch_size, len(self.indices)) - first * self.batch_size

    def _own_shard(self, order: Tensor, position: int) -> tuple[Tensor, int]:
        """This process's shard of a step's positions, and the step's number of images over all processes."""
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        return chosen[shard(len(chosen), *self.rank_and_world_size())], len(chosen)


@dataclass(eq=False, repr=False)
class TrainLoader(EvalLoader):
    """Every image once per epoch, in the order of (seed, epoch). Resumes within an epoch from its `state_dict`."""

    _: KW_ONLY
    seed: int
    augment: Augment | None = None
    shuffle: bool = True  # False repeats the first epoch's order, which Lightning's `overfit_batches` needs
    capturable: bool = False  # whether `augment` can be part of a CUDA graph
    trained: Callable[[], float] | None = None  # how many of the epoch's batches have been trained, if known
    deferred: bool = field(default=False, init=False)  # whether full batches are yielded as `DeferredBatch`
    epoch: int = field(default=0, init=False)
    position: int = field(default=0, init=False)
    _resume: dict[str, int] = field(default_factory=dict, init=False)  # a state to continue from; used once

    @property
    def sampler(self) -> "TrainLoader":
        """Lightning calls `loader.sampler.set_epoch`, never `loader.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next `iter`, which starts with its first batch."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches, of what size, have been trained: not one whose step an error has
        interrupted."""
        position = int(min(self.position, self.trained())) if self.trained else self.position
        return self._resume or {"epoch": self.epoch, "position": position, "batch_size": int(self.batch_size)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start at the saved position if the next epoch is the saved one; any other epoch starts at 0. Within an epoch,
        `iter` raises InputError if the size of the batches has changed: the position counts batches."""
        self._resume = dict(state)

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch
        shuffled = permutation(self.seed, epoch if self.shuffle else 0, len(self.indices))
        order = self.indices[shuffled].to(self.images.device)
        start = self._resume["position"] if self._resume.get("epoch") == epoch else 0
        saved = self._resume.get("batch_size", self.batch_size)
        expected = f"{saved}, to continue within an epoch"
        require("data.batch_size", self.batch_size, expected, not start or saved == self.batch_size)
        self._resume = {}
        for position in range(start, len(self)):
            self.position = position + 1
            mine, size = self._own_shard(order, position)
            full = len(mine) == self.batch_size
            yield DeferredBatch(self, mine, epoch) if self.deferred and full else self.batch(mine, size, epoch)

    def batch(self, indices: Tensor, size: int, epoch: int | Tensor | None = None) -> Batch:
        """The images at these positions, as they are augmented in an epoch."""
        images, labels = self.images[indices], self.labels[indices]
        if self.augment and epoch is not None:
            images = self.augment(images, labels, indices, epoch)
        return Batch(standardize(images), labels, indices, size, epoch)


class DeferredBatch(Batch):
    """A full batch whose images are computed only on access, since a captured step computes its own."""

    def __init__(self, loader: TrainLoader, indices: Tensor, epoch: int) -> None:
        self._loader, self.indices, self.size, self.epoch = loader, indices, len(indices), epoch

    @cached_property
    def inputs(self) -> Tensor:  # type: ignore[override]
        """Standardized and augmented, float32 (B, 1, 28, 28)."""
        return self._loader.batch(self.indices, self.size, self.epoch).inputs

    @cached_property
    def labels(self) -> Tensor:  # type: ignore[override]
        """The classes, int64 (B,)."""
        return self._loader.labels[self.indices]


def loss_scale(trainer: Any, batch: Batch, batch_idx: int) -> float:
    """The factor on a batch's summed loss: world size × accumulated batches / images of the optimizer step.

    DDP averages gradients over processes and Lightning over accumulated batches. With this factor, the result is the
    gradient of one process that sees all images of the step at once, however they are divided.
    """
    accumulated, loader = trainer.accumulate_grad_batches, trainer.train_dataloader
    if accumulated == 1 or not isinstance(loader, TrainLoader):  # other loaders: as in Lightning
        return float(trainer.world_size / batch.size)
    first = batch_idx - batch_idx % accumulated
    stop = min(first + accumulated, int(trainer.num_training_batches))
    return float(trainer.world_size / (loader.images_in(first, stop) / accumulated))


def check_batch_norm(network: nn.Module, trainer: Any) -> None:
    """Raise InputError if batch normalization would see a single image, whose standard deviation is undefined, in a
    batch that the trainer will run."""
    loader, accumulated = trainer.train_dataloader, trainer.accumulate_grad_batches
    if isinstance(loader, TrainLoader) and any(isinstance(module, _BatchNorm) for module in network.modules()):
        _, world_size = loader.rank_and_world_size()
        batches = int(min(trainer.num_training_batches, trainer.estimated_stepping_batches * accumulated))
        least = min(loader.images_in(0, 1), loader.images_in(batches - 1, batches)) // world_size
        expected = "one large enough for two images per device in every step, for batch normalization"
        require("data.batch_size", loader.batch_size, expected, least >= 2)
