"""Datasets as tensors: parsed from verified files, taken from scikit-learn or torchvision, or your own pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from mnist_lit.data.download import IDX_FILES, TORCHVISION_DATASETS, read_archives
from mnist_lit.data.image_folder import folder_classes, load_image_folder
from mnist_lit.data.in_memory import DIGITS, InMemoryDataset, stratified_split
from mnist_lit.data.torchvision_datasets import EmnistSplit, emnist_classes, load_from_torchvision
from mnist_lit.errors import InputError, require, require_choice
from mnist_lit.imaging.mnist_format import fit_to_box

DatasetName = Literal["mnist", "fashion_mnist", "kmnist", "qmnist", "emnist", "digits", "folder"]

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


class Description(NamedTuple):
    """A dataset's name in texts, and its classes by label as its authors name them, unless a split or a folder says."""

    title: str
    classes: tuple[str, ...] = ()


DATASETS: dict[DatasetName, Description] = {
    "mnist": Description("MNIST", DIGITS),
    "fashion_mnist": Description("Fashion-MNIST", FASHION),
    "kmnist": Description("KMNIST", ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")),
    "qmnist": Description("QMNIST", DIGITS),
    "emnist": Description("EMNIST"),
    "digits": Description("scikit-learn’s digits", DIGITS),
    "folder": Description("own pictures"),
}


def check_options(options: Mapping[str, Any]) -> None:
    """Raise InputError for an invalid option of `MNISTDataModule`."""
    dataset, fraction, per_class = options["dataset"], options["fraction"], options["per_class"]
    require_choice("data.dataset", dataset, get_args(DatasetName))
    if dataset == "digits" and options["data_dir"] != "data" and Path(options["data_dir"], "train").is_dir():
        raise InputError(
            "data.data_dir: the embedded digits need no folder; "
            f"to read {options['data_dir']}, add --data.dataset folder"
        )
    for option, least in {"batch_size": 1, "val_size": 0, "per_class": 0}.items():
        require(f"data.{option}", options[option], f"{least} or more", options[option] >= least)
    for option in ("anneal", "continental", "handwriting"):
        require(f"data.{option}", options[option], "a fraction in [0, 1]", 0 <= options[option] <= 1)
    require("data.fraction", fraction, "a fraction in (0, 1]", 0 < fraction <= 1)
    require("data.per_class", per_class, "0 with data.fraction", not per_class or fraction == 1)
    own_split = dataset == "emnist" or options["split"] == "balanced"
    require("data.split", options["split"], "balanced unless data.dataset is emnist", own_split)
    require_choice("data.split", options["split"], get_args(EmnistSplit))
    unused = options["mirrors"] and dataset in TORCHVISION_DATASETS
    require("data.mirrors", options["mirrors"], "none, since torchvision downloads this dataset", not unused)


def class_names(dataset: DatasetName, data_dir: str | Path, split: EmnistSplit) -> tuple[str, ...]:
    """A dataset's class names by label."""
    if dataset == "folder":
        return folder_classes(data_dir)
    return emnist_classes(split) if dataset == "emnist" else DATASETS[dataset].classes


def load_dataset(dataset: DatasetName, data_dir: str | Path, split: EmnistSplit = "balanced") -> InMemoryDataset:
    """Read and verify a dataset. Downloads nothing. Raises InputError if a file is missing or damaged."""
    if dataset == "folder":
        return load_image_folder(data_dir)
    classes = class_names(dataset, data_dir, split)
    if dataset in TORCHVISION_DATASETS:
        return InMemoryDataset(*load_from_torchvision(dataset, split, data_dir), classes=classes)
    if dataset != "digits":
        parts = read_archives(dataset, Path(data_dir))
        return InMemoryDataset(*(_parse_idx(parts[part]) for part in IDX_FILES), classes=classes)
    # scikit-learn's 1,797 digits of 8×8 pixels, from UCI's "Optical Recognition of Handwritten Digits".
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    digits = np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # 0 … 16 → 0 … 255
    images = torch.from_numpy(np.stack([fit_to_box(digit) for digit in digits]))  # (1797, 28, 28)
    targets = torch.from_numpy(labels.astype(np.int64))
    train, test = stratified_split(targets, 360, seed=0)  # a fifth for testing, the same images for every seed
    return InMemoryDataset(images[train], targets[train], images[test], targets[test])


def _parse_idx(data: bytes) -> Tensor:
    """Parse an IDX file: images to uint8 (N, 28, 28), labels to int64 (N,)."""
    # LeCun's MNIST page: two zero bytes, type, number of dimensions, each size as a big-endian uint32, then the values.
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", count=dimensions, offset=4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    return torch.from_numpy(values.copy() if dimensions == 3 else values.astype(np.int64))
