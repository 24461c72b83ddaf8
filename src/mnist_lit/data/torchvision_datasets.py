"""EMNIST and QMNIST, which torchvision downloads, verifies and reads; only their orientation and labels are adapted."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mnist_lit.data.download import download_lock
from mnist_lit.errors import InputError

EmnistSplit = Literal["balanced", "letters", "digits"]


def emnist_classes(split: EmnistSplit) -> tuple[str, ...]:
    """The class names of a part of EMNIST by label, as its authors order them."""
    from torchvision.datasets import EMNIST  # takes a second to import

    names = EMNIST.classes_split_dict[split]
    return tuple(name for name in names if name != "N/A")  # letters are counted from 1


def download_from_torchvision(dataset: str, split: EmnistSplit, data_dir: str | Path) -> None:
    """Download a dataset unless its files are readable. Of concurrent processes, one downloads and the others wait.
    Raises InputError on failure."""
    try:
        load_from_torchvision(dataset, split, data_dir)
    except InputError:
        folder = Path(data_dir, dataset.upper())
        try:
            with download_lock(folder):
                load_from_torchvision(dataset, split, data_dir, download=True)
        except OSError as error:
            raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error


def load_from_torchvision(
    dataset: str, split: EmnistSplit, data_dir: str | Path, *, download: bool = False
) -> tuple[Tensor, ...]:
    """Training images, training labels, test images, test labels: uint8 (N, 28, 28) and int64 (N,), counted from 0.

    Raises InputError if files are missing, or cannot be downloaded.
    """
    from torchvision.datasets import EMNIST, QMNIST

    parts: list[Tensor] = []
    try:
        for train in (True, False):
            if dataset == "emnist":
                data: Any = EMNIST(str(data_dir), split=split, train=train, download=download)
                # EMNIST's authors store columns as rows; letters are counted from 1.
                images, labels = data.data.transpose(1, 2), data.targets - int(split == "letters")
            else:  # `test10k`: the first 10,000 of its 60,000 test images are MNIST's own test images
                data = QMNIST(str(data_dir), what="train" if train else "test10k", download=download)
                images, labels = data.data, data.targets[:, 0] if data.targets.ndim == 2 else data.targets
            parts += [images.contiguous(), labels.to(torch.int64)]
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"data.dataset: cannot read {dataset} in {data_dir}: {reason}") from error
    return tuple(parts)
