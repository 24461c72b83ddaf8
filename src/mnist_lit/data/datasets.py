"""Datasets as tensors: parsed from verified files or taken from scikit-learn, and stratified splits of them."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mnist_lit.data.download import IDX_FILES, md5, read_archives
from mnist_lit.data.keyed_random import SPLIT, permutation
from mnist_lit.imaging.mnist_format import fit_to_box

DatasetName = Literal["mnist", "fashion_mnist", "kmnist", "digits", "folder"]

DIGITS = tuple("0123456789")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CLASS_NAMES = {  # by label, as the datasets' authors name them
    "mnist": DIGITS,
    "digits": DIGITS,
    "fashion_mnist": FASHION,
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}


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


def load_dataset(dataset: DatasetName, data_dir: str | Path) -> InMemoryDataset:
    """Read and verify a published dataset; `load_image_folder` reads your own pictures. Downloads nothing.
    Raises InputError if a file is missing or damaged."""
    if dataset != "digits":
        parts = read_archives(dataset, Path(data_dir))
        return InMemoryDataset(*(_parse_idx(parts[part]) for part in IDX_FILES), classes=CLASS_NAMES[dataset])
    # scikit-learn's 1,797 digits of 8×8 pixels, from UCI's "Optical Recognition of Handwritten Digits".
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    digits = np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # 0 … 16 → 0 … 255
    images = torch.from_numpy(np.stack([fit_to_box(digit) for digit in digits]))  # (1797, 28, 28)
    targets = torch.from_numpy(labels.astype(np.int64))
    train, test = stratified_split(targets, 360, seed=0)  # a fifth for testing, the same images for every seed
    return InMemoryDataset(images[train], targets[train], images[test], targets[test])


def stratified_split(labels: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split 0 … N - 1 into (rest, chosen), with `size` chosen in proportion to each class: int64, both sorted.
    Quotas are rounded down, and the largest remainders get what is left over (Hamilton's method).

    >>> rest, chosen = stratified_split(torch.tensor([0, 0, 1, 1, 1, 1]), 3, seed=0)
    >>> torch.tensor([0, 0, 1, 1, 1, 1])[chosen].tolist()
    [0, 1, 1]
    """
    order = permutation(seed, 0, len(labels), stream=SPLIT)
    counts = labels.bincount()
    quotas, remainders = counts * size // len(labels), counts * size % len(labels)
    quotas[remainders.argsort(descending=True, stable=True)[: size - int(quotas.sum())]] += 1
    classes = [order[labels[order] == label][: int(quota)] for label, quota in enumerate(quotas)]
    chosen = torch.cat(classes).sort().values
    rest = torch.ones(len(labels), dtype=torch.bool).index_fill(0, chosen, False).nonzero().flatten()
    return rest, chosen


def _parse_idx(data: bytes) -> Tensor:
    """Parse an IDX file: images to uint8 (N, 28, 28), labels to int64 (N,)."""
    # LeCun's MNIST page: two zero bytes, type, number of dimensions, each size as a big-endian uint32, then the values.
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", count=dimensions, offset=4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    return torch.from_numpy(values.copy() if dimensions == 3 else values.astype(np.int64))
