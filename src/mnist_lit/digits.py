"""Where digits come from: found or downloaded, verified, parsed; uint8 tensors out. No augmentation.

A dataset's archives are enough: they are read where they lie, and nothing is extracted beside them.
"""

import gzip
import hashlib
import shlex
import tempfile
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor

from mnist_lit import pixels
from mnist_lit.errors import InputError
from mnist_lit.order import SPLIT, permutation
from mnist_lit.suggest import nearest

__all__ = ["FILES", "Dataset", "Digits", "digest", "fetch", "load", "stratified_split"]

Dataset = Literal["mnist", "fashion_mnist", "kmnist", "digits"]

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}  # its class and its folder
EXTRACTED = {  # md5 of the extracted files; where it is not known, the archive's own md5 vouches for what is in it
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
}
DIGITS_TEST = 360  # a fifth of the embedded 1,797, the same for every seed


@dataclass(frozen=True)
class Digits:
    """A dataset in memory. Images: uint8 (N, 28, 28), 0 = paper; labels: int64 (N,)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def fingerprint(self) -> str:
        """md5 over all bytes: two runs with the same fingerprint saw the same data."""
        parts = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        return digest(b"".join(part.numpy().tobytes() for part in parts))


def digest(data: bytes) -> str:
    """md5, as the datasets' own lists give it: against accidents, not against attackers."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def load(dataset: Dataset, data_dir: str | Path) -> Digits:
    """Read a dataset whole, verified.

    Looks in `data_dir/MNIST/raw` (torchvision's layout; `FashionMNIST`, `KMNIST`) and in `data_dir` itself, for the
    IDX files or their `.gz`. Raises InputError where one is missing or altered; nothing is downloaded here.
    """
    if dataset == "digits":
        return _embedded()
    return Digits(**{part: _parse(name, _read(dataset, Path(data_dir), name)) for part, name in FILES.items()})


def fetch(dataset: Dataset, data_dir: str | Path) -> list[Path]:
    """Download what `load` would refuse, to `data_dir/MNIST/raw`; returns the new files.

    Raises InputError if it cannot. The addresses are torchvision's (`torchvision.datasets.MNIST.mirrors`). Files arrive
    under another name and are renamed when they are whole.
    """
    if dataset not in get_args(Dataset):
        names = ", ".join(get_args(Dataset))
        raise InputError(f"no dataset {dataset}{nearest(dataset, get_args(Dataset))} (there are {names})")
    if dataset == "digits":
        return []
    new = []
    for name in FILES.values():
        try:
            _read(dataset, Path(data_dir), name)
        except InputError:
            new.append(_download(dataset, Path(data_dir), name))
    return new


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


def _folders(dataset: str, data_dir: Path) -> tuple[Path, Path]:
    return data_dir / TORCHVISION[dataset] / "raw", data_dir


def _torchvision(dataset: str) -> Any:
    """torchvision's class: it knows the mirrors and the archives' md5. Imported only where they are needed."""
    import torchvision

    return getattr(torchvision.datasets, TORCHVISION[dataset])


def _archive_digest(dataset: str, name: str) -> str:
    return str(dict(_torchvision(dataset).resources)[f"{name}.gz"])


def _read(dataset: str, data_dir: Path, name: str) -> bytes:
    """A file's contents as they were published, from the extracted file or else from the archive."""
    wanted = EXTRACTED.get(dataset, {}).get(name)
    others = []
    for folder in _folders(dataset, data_dir):
        for path in (folder / name, folder / f"{name}.gz"):
            try:
                data = packed = path.read_bytes()
                if path.suffix == ".gz":
                    data = gzip.decompress(packed)
            except FileNotFoundError:
                continue
            except (OSError, EOFError, zlib.error):
                others.append(str(path))
                continue
            known = wanted == digest(data) if wanted else digest(packed) == _archive_digest(dataset, name)
            if known:
                return data
            others.append(str(path))
    found = f" ({', '.join(others)}: not as it was published)" if others else ""
    folder = _folders(dataset, data_dir)[0]
    fetch = f"mnist-lit data --dataset {dataset} --data_dir {shlex.quote(str(data_dir))}"
    raise InputError(f"no {name}.gz of {dataset} in {folder}{found}; run `{fetch}`")


def _parse(name: str, data: bytes) -> Tensor:
    """An IDX file (its format: LeCun's MNIST page): images as uint8 (N, 28, 28), labels as int64 (N,)."""
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", count=dimensions, offset=4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    return torch.from_numpy(values.copy() if "images" in name else values.astype(np.int64))


def _download(dataset: Dataset, data_dir: Path, name: str) -> Path:
    from torchvision.datasets.utils import download_url

    folder = _folders(dataset, data_dir)[0]
    file, reasons = f"{name}.gz", []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            for mirror in _torchvision(dataset).mirrors:
                try:
                    download_url(f"{mirror}{file}", aside, file, md5=_archive_digest(dataset, name))
                except (URLError, HTTPException, RuntimeError, TimeoutError, ConnectionError) as error:
                    reasons.append(f"{mirror}: {error}")
                else:
                    Path(aside, file).replace(folder / file)
                    return folder / file
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror or error}; choose another --data.data_dir"
        ) from error
    hint = f"put {file} into {folder} by hand, or try `--config quickstart`, which needs no download"
    raise InputError(f"cannot download {file} ({'; '.join(reasons)}); {hint}")


def _embedded() -> Digits:
    """scikit-learn's 1,797 handwritten digits (8×8, of the UCI set "Optical Recognition of Handwritten Digits")."""
    from sklearn.datasets import load_digits

    pages, labels = load_digits(return_X_y=True)
    grey = np.rint(pages.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # 0 … 16 → 0 … 255
    images = torch.from_numpy(np.stack([pixels.place(digit) for digit in grey]))  # (1797, 28, 28)
    targets = torch.from_numpy(labels.astype(np.int64))
    train, test = stratified_split(targets, DIGITS_TEST, seed=0)
    return Digits(images[train], targets[train], images[test], targets[test])
