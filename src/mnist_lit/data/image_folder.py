"""Your own pictures as a dataset: `my-digits/{train,val,test}/<class>/*.png`, through the same door as `predict`.

What was read is kept beside the pictures, since finding the ink takes some 5 ms a picture. Trains nothing.
"""

import contextlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mnist_lit import __version__
from mnist_lit.data.datasets import InMemoryDataset
from mnist_lit.data.download import md5
from mnist_lit.errors import InputError
from mnist_lit.imaging.mnist_format import IMAGE_SIZE, find_digit
from mnist_lit.imaging.open_picture import open_picture, picture_names
from mnist_lit.system.atomic_file import write_atomic

__all__ = ["SPLITS", "folder_classes", "load_image_folder", "validation_size"]

SPLITS = ("train", "val", "test")  # of which only the first must be there
CACHE = ".mnist-lit.npz"  # what was read of these pictures
MAX_LISTED = 3  # files that a refusal names


def folder_classes(data_dir: str | Path) -> tuple[str, ...]:
    """The names of the classes: the folders in `train`, numbers in their order. Raises InputError without two."""
    names = _folders(Path(data_dir) / "train")
    if len(names) < 2:
        found = f"{len(names)} of them" if Path(data_dir, "train").is_dir() else "no such folder"
        raise InputError(
            f"expected pictures in {data_dir}/train/CLASS/, a folder for each of two classes or more; got {found}"
        )
    return tuple(names)


def validation_size(data_dir: str | Path) -> int:
    """How many pictures `val` sets aside."""
    return sum(len(_pictures(Path(data_dir) / "val" / name)) for name in folder_classes(data_dir))


def load_image_folder(data_dir: str | Path) -> InMemoryDataset:
    """Read every picture. Of the training images the last `Digits.val` are those of `val`.

    Raises InputError where a picture cannot be read or has nothing on it, or where a class has no picture to train on.
    """
    folder, names = Path(data_dir), folder_classes(data_dir)
    files: list[tuple[str, Path]] = []  # the split, and the picture
    for split in SPLITS:
        if unknown := set(_folders(folder / split)) - {*names}:
            raise InputError(f"{folder / split} has the class {min(unknown)}, and {folder / 'train'} has not")
        found = [(split, path) for name in names for path in _pictures(folder / split / name)]
        if split == "train" and (empty := {*names} - {path.parent.name for _, path in found}):
            raise InputError(f"no picture in {folder / split / min(empty)}")
        files += found
    images = _images(folder, [path for _, path in files])
    labels = np.array([names.index(path.parent.name) for _, path in files], np.int64)
    where = np.array([SPLITS.index(split) for split, _ in files])
    tested = where == SPLITS.index("test")
    return InMemoryDataset(
        torch.from_numpy(images[~tested]),
        torch.from_numpy(labels[~tested]),
        torch.from_numpy(images[tested]),
        torch.from_numpy(labels[tested]),
        classes=names,
        val=int((where == SPLITS.index("val")).sum()),
        files=tuple(_told(path.relative_to(folder)) for split, path in files if split == "test"),
    )


def _told(path: Path) -> str:
    """A path as text; bytes that are none, as a file's name may have, become question marks."""
    return os.fsencode(path.as_posix()).decode(errors="replace")


def _folders(path: Path) -> list[str]:
    names = [inner.name for inner in path.iterdir() if inner.is_dir() and inner.name[0] != "."] if path.is_dir() else []
    return sorted(names, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))


def _pictures(path: Path) -> list[Path]:
    names = [file.name for file in path.iterdir()] if path.is_dir() else []
    return [path / name for name in sorted(picture_names(names))]


def _images(folder: Path, files: list[Path]) -> NDArray[np.uint8]:
    """The pictures as uint8 (N, 28, 28): as they were read before, if they are still the same files, else read anew."""
    state = []
    for path in files:
        try:
            told = path.stat()
        except OSError as error:
            raise InputError(f"mend or remove {path}: {error.strerror}") from error
        state.append((str(path.relative_to(folder)), told.st_size, told.st_mtime_ns))
    key = md5(repr((__version__, state)).encode())
    # A damaged file raises nearly anything, and is written anew.
    with contextlib.suppress(Exception), np.load(io.BytesIO(folder.joinpath(CACHE).read_bytes())) as kept:
        if str(kept["key"]) == key and kept["images"].shape == (len(files), IMAGE_SIZE, IMAGE_SIZE):
            return np.asarray(kept["images"], np.uint8)
    print(f"data: reading {len(files):,} pictures of {folder}", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        read = list(threads.map(_read, files))
    if wrong := [f"{path}: {what}" for path, what in zip(files, read, strict=True) if isinstance(what, str)]:
        more = f"; and {len(wrong) - MAX_LISTED:,} more" if len(wrong) > MAX_LISTED else ""
        raise InputError(f"mend or remove {'; '.join(wrong[:MAX_LISTED])}{more}")
    images = np.stack([what for what in read if not isinstance(what, str)])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, key=np.array(key), images=images)
    with contextlib.suppress(OSError):  # a folder that cannot be written is read anew each time
        write_atomic(folder / CACHE, buffer.getbuffer())
    return images


def _read(path: Path) -> NDArray[np.uint8] | str:
    """The picture's digit, uint8 (28, 28), or why there is none."""
    try:
        found = find_digit(open_picture(path))
    except InputError as error:
        return str(error)
    return found.image if found else "nothing is written here"
