"""A dataset in memory, and parts of it: stratified splits, some classes only, fewer training images."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from mnist_lit.data.download import md5
from mnist_lit.data.keyed_random import SPLIT, permutation
from mnist_lit.errors import InputError, require

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class InMemoryDataset:
    """A dataset in memory. Images: uint8 (N, 28, 28), 0 = paper; labels: int64 (N,), counted from 0."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    _: KW_ONLY
    classes: tuple[str, ...] = DIGITS  # the names of labels 0 … C - 1
    val: int = 0  # how many training images, at the end, are the dataset's own validation split
    files: tuple[str, ...] = ()  # the source of each test image, where every image has its own file

    def fingerprint(self) -> str:
        """md5 of all images and labels: runs with equal fingerprints used the same data."""
        parts = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        return md5(b"".join(part.numpy().tobytes() for part in parts))


def stratified_split(labels: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split 0 … N - 1 into (rest, chosen), with `size` chosen in proportion to each class: int64, both sorted.
    Quotas are rounded down, and the remaining images go to the largest remainders (Hamilton's method).

    >>> rest, chosen = stratified_split(torch.tensor([0, 0, 1, 1, 1, 1]), 3, seed=0)
    >>> torch.tensor([0, 0, 1, 1, 1, 1])[chosen].tolist()
    [0, 1, 1]
    """
    counts = labels.bincount()
    quotas, remainders = counts * size // len(labels), counts * size % len(labels)
    quotas[remainders.argsort(descending=True, stable=True)[: size - int(quotas.sum())]] += 1
    chosen = _choose(labels, quotas.tolist(), seed)
    rest = torch.ones(len(labels), dtype=torch.bool).index_fill(0, chosen, False).nonzero().flatten()
    return rest, chosen


def _choose(labels: Tensor, quotas: Sequence[int], seed: int) -> Tensor:
    """Positions of this many images of each class: int64, sorted. Larger quotas add images, and replace none."""
    order = permutation(seed, 0, len(labels), stream=SPLIT)
    classes = [order[labels[order] == label][:quota] for label, quota in enumerate(quotas)]
    return torch.cat(classes).sort().values


def classes_of(trainer: Any, num_classes: int) -> tuple[str, ...]:
    """The class names of a trainer's data module; numbers if it is not ours."""
    return getattr(trainer.datamodule, "classes", None) or tuple(map(str, range(num_classes)))


def split_indices(
    data: InMemoryDataset,
    source: str,
    *,
    val_size: int,
    seed: int,
    batch_size: int,
    fraction: float,
    per_class: int,
) -> tuple[Tensor, Tensor]:
    """Positions, int64, of a dataset's training and validation images: its own split or a stratified one, the training
    images reduced by `subset`. source: its name or folder. Raises InputError if fewer than `batch_size` are left."""
    total = len(data.train_labels)
    if not total:
        raise InputError(f"expected pictures in {source}/train/CLASS/, got none")
    require("data.val_size", val_size, f"less than the {total} images of {source}", val_size < total)
    if data.val:
        train, val = torch.arange(total).tensor_split([total - data.val])
    else:
        train, val = stratified_split(data.train_labels, val_size, seed)
    kept = train[subset(data.train_labels[train], len(data.classes), fraction, per_class, seed)]
    if len(kept) < batch_size <= len(train):
        name, value = ("per_class", per_class) if per_class else ("fraction", fraction)
        expected = f"one that leaves at least data.batch_size = {batch_size} of the {len(train)} training images"
        raise InputError(f"data.{name}: expected {expected}, got {value}, which leaves {len(kept)}")
    require("data.batch_size", batch_size, f"no more than the {len(kept)} training images", batch_size <= len(kept))
    return kept, val


def subset(labels: Tensor, classes: int, fraction: float, per_class: int, seed: int) -> Tensor:
    """Positions of a fraction of the labels, stratified, or of `per_class` of each of 0 … classes - 1: int64, sorted;
    all if none is set.

    A smaller `per_class` is part of any larger one. Raises InputError if a class has too few images.
    """
    if per_class:
        counts = labels.bincount(minlength=classes)
        least = int(counts.min())
        require("data.per_class", per_class, f"at most {least}, as many as each class has", per_class <= least)
        return _choose(labels, [per_class] * len(counts), seed)
    size = round(fraction * len(labels))
    return stratified_split(labels, size, seed)[1] if size < len(labels) else torch.arange(len(labels))


def chosen_classes(given: str, names: Sequence[str]) -> tuple[str, ...]:
    """The named classes, separated by commas, in the dataset's order; all if none is named.

    >>> chosen_classes("7,3", "0123456789")
    ('3', '7')
    """
    if not given:
        return tuple(names)
    wanted = [name.strip() for name in given.split(",")]
    if unknown := [name for name in wanted if name not in names]:
        raise InputError(f"data.classes: expected some of {', '.join(names)}, got {unknown[0]}")
    require("data.classes", given, "two or more different classes", len({*wanted}) == len(wanted) >= 2)
    return tuple(name for name in names if name in wanted)


def only_classes(data: InMemoryDataset, classes: Sequence[str]) -> InMemoryDataset:
    """The images of some classes, whose labels become 0, 1 and so on in the given order."""
    if tuple(classes) == data.classes:
        return data
    labels = torch.full((len(data.classes),), -1)
    for label, name in enumerate(classes):
        labels[data.classes.index(name)] = label
    parts: dict[str, Any] = {}
    for part in ("train", "test"):
        renumbered = labels[getattr(data, f"{part}_labels")]
        kept = renumbered >= 0
        parts |= {f"{part}_labels": renumbered[kept], f"{part}_images": getattr(data, f"{part}_images")[kept]}
    val = int((labels[data.train_labels[len(data.train_labels) - data.val :]] >= 0).sum())
    files = tuple(compress(data.files, (labels[data.test_labels] >= 0).tolist()))
    return replace(data, **parts, classes=tuple(classes), val=val, files=files)
