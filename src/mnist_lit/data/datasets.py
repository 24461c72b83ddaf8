"""Digits as tensors: parsed from verified files, or embedded; split by class. No augmentation."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mnist_lit.data.download import IDX_FILES, md5, read_archives
from mnist_lit.data.keyed_random import SPLIT, permutation
from mnist_lit.imaging.mnist_format import fit_to_box

__all__ = ["CLASS_NAMES", "DIGITS", "DatasetName", "InMemoryDataset", "load_dataset", "stratified_split"]

DatasetName = Literal["mnist", "fashion_mnist", "kmnist", "digits", "folder"]

DIGITS = tuple("0123456789")
CLASS_NAMES = {  # what the labels stand for, as the datasets' authors have it
    "mnist": DIGITS,
    "digits": DIGITS,
    "fashion_mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}

EMBEDDED_TEST_SIZE = 360  # a fifth of the embedded 1,797, the same for every seed


@dataclass(frozen=True)
class InMemoryDataset:
    """A dataset in memory. Images: uint8 (N, 28, 28), 0 = paper; labels: int64 (N,), from 0 on."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    _: KW_ONLY
    classes: tuple[str, ...] = DIGITS  # what the labels 0 … C - 1 stand for
    val: int = 0  # of the training images the last ones, which who made the data set aside
    files: tuple[str, ...] = ()  # where each test image comes from, if from a file of its own

    def fingerprint(self) -> str:
        """md5 over all bytes: two runs with the same fingerprint saw the same data."""
        parts = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        return md5(b"".join(part.numpy().tobytes() for part in parts))


def load_dataset(dataset: DatasetName, data_dir: str | Path) -> InMemoryDataset:
    """Read a published dataset whole, verified; for pictures of your own see `folder`. Downloads nothing.

    Raises InputError where a file is missing or damaged.
    """
    if dataset == "digits":
        return _load_embedded()
    parts = read_archives(dataset, Path(data_dir))
    return InMemoryDataset(*(_parse_idx(parts[part]) for part in IDX_FILES), classes=CLASS_NAMES[dataset])


def stratified_split(labels: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split 0 … N - 1 into the rest and `size` of them, each class in proportion: int64, both sorted.

    >>> rest, chosen = stratified_split(torch.tensor([0, 0, 1, 1, 1, 1]), 3, seed=0)
    >>> torch.tensor([0, 0, 1, 1, 1, 1])[chosen].tolist()
    [0, 1, 1]
    """
    order = permutation(seed, 0, len(labels), stream=SPLIT)
    counts = labels.bincount()
    wanted = counts * size // len(labels)
    remainders = counts * size % len(labels)
    wanted[remainders.argsort(descending=True, stable=True)[: size - int(wanted.sum())]] += 1
    classes = [order[labels[order] == label][: int(count)] for label, count in enumerate(wanted)]
    chosen = torch.cat(classes).sort().values
    rest = torch.ones(len(labels), dtype=torch.bool).index_fill(0, chosen, False).nonzero().flatten()
    return rest, chosen


def _parse_idx(data: bytes) -> Tensor:
    """An IDX file (its format: LeCun's MNIST page): images as uint8 (N, 28, 28), labels as int64 (N,)."""
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", count=dimensions, offset=4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    return torch.from_numpy(values.copy() if dimensions == 3 else values.astype(np.int64))


def _load_embedded() -> InMemoryDataset:
    """scikit-learn's 1,797 handwritten digits (8×8, of the UCI set "Optical Recognition of Handwritten Digits")."""
    from sklearn.datasets import load_digits

    pages, labels = load_digits(return_X_y=True)
    grey = np.rint(pages.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # 0 … 16 → 0 … 255
    images = torch.from_numpy(np.stack([fit_to_box(digit) for digit in grey]))  # (1797, 28, 28)
    targets = torch.from_numpy(labels.astype(np.int64))
    train, test = stratified_split(targets, EMBEDDED_TEST_SIZE, seed=0)
    return InMemoryDataset(images[train], targets[train], images[test], targets[test])
