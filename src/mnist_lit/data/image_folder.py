"""Your own pictures as a dataset: `my-digits/{train,val,test}/<class>/*.png`, converted as `predict` converts them.
That takes about 5 ms per picture, 0.1 s per photo, so the converted images are cached beside the pictures."""

import contextlib
import io
import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from mnist_lit.data.download import md5
from mnist_lit.data.in_memory import InMemoryDataset
from mnist_lit.errors import InputError, require
from mnist_lit.imaging.find_digits import find_digit
from mnist_lit.imaging.mnist_format import IMAGE_SIZE
from mnist_lit.imaging.open_picture import open_picture, picture_names
from mnist_lit.system.atomic_file import write_atomic
from mnist_lit.system.console import say
from mnist_lit.system.regular_file import read_regular_file

IMAGING = Path(__file__).parents[1] / "imaging"  # the code that converts them
CACHE = ".mnist-lit.npz"  # the converted images
MAX_LISTED = 3  # files named in one error message


def folder_classes(data_dir: str | Path) -> tuple[str, ...]:
    """The class names, numbers in numeric order: the folders in `train` or, without that folder, in `test`. Raises
    InputError for fewer than two."""
    train = Path(data_dir, "train")
    classes = _class_folders(train if train.is_dir() else Path(data_dir, "test"))
    if len(classes) < 2:
        found = f"{len(classes)} class folders" if train.is_dir() else "no such folder"
        if train.parent.name in ("train", "val", "test"):
            found += f"; did you mean --data.data_dir {train.parents[1]}?"
        elif not train.parent.is_dir():
            found = f"no folder {data_dir}"
        raise InputError(f"expected pictures in {train}/CLASS/, a folder for each of two or more classes; got {found}")
    return tuple(classes)


def validation_size(data_dir: str | Path, classes: Sequence[str]) -> int:
    """The number of these classes' pictures in `val`. Raises InputError if only other classes have any."""
    val = Path(data_dir, "val")
    sizes = {name: len(_pictures(val / name)) for name in folder_classes(data_dir)}
    size = sum(sizes[name] for name in classes)
    require("data.classes", ",".join(classes), f"some with pictures in {val}", bool(size) or not any(sizes.values()))
    return size


def load_image_folder(data_dir: str | Path) -> InMemoryDataset:
    """Read every picture; those of `val` are the last `InMemoryDataset.val` training images. Raises InputError if one
    cannot be read or is blank, or if a class has no pictures in a folder `train`."""
    folder, classes = Path(data_dir), folder_classes(data_dir)
    splits = []
    for split in ("train", "val", "test"):  # only the first is required, and none for a test
        if unknown := {*_class_folders(folder / split)} - {*classes}:
            raise InputError(f"{folder / split} has the class {min(unknown)}, {folder / 'train'} does not")
        by_class = [_pictures(folder / split / name) for name in classes]
        if split == "train" and [] in by_class and folder.joinpath(split).is_dir():
            raise InputError(f"expected pictures in {folder / split / classes[by_class.index([])]}, got none")
        splits.append([path for paths in by_class for path in paths])
    train, val, test = splits
    if not train + val + test:
        raise InputError(f"expected pictures in {folder / 'test'}/CLASS/, got none")
    images = torch.from_numpy(_read_or_load_cached(folder, train + val + test))
    labels = torch.tensor([classes.index(path.parent.name) for path in train + val + test])
    n = len(train + val)
    # File names need not be valid UTF-8; undecodable bytes become replacement characters.
    files = tuple(os.fsencode(path.relative_to(folder).as_posix()).decode(errors="replace") for path in test)
    return InMemoryDataset(images[:n], labels[:n], images[n:], labels[n:], classes=classes, val=len(val), files=files)


def _class_folders(path: Path) -> list[str]:
    names = [inner.name for inner in path.iterdir() if inner.is_dir() and inner.name[0] != "."] if path.is_dir() else []
    if odd := next((name for name in names if not name.isprintable()), None):
        shown = os.fsencode(path / odd).decode(errors="replace")
        raise InputError(f"expected class folders with printable names in UTF-8, got {shown!r}; rename it")
    return sorted(names, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))


def _pictures(path: Path) -> list[Path]:
    names = [file.name for file in path.iterdir()] if path.is_dir() else []
    return [path / name for name in sorted(picture_names(names))]


def _read_or_load_cached(folder: Path, files: list[Path]) -> NDArray[np.uint8]:
    """The converted pictures, uint8 (N, 28, 28): from the cache if names, sizes and modification times all match,
    and the same code has converted them."""
    try:
        state = [(str(path.relative_to(folder)), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]
    except OSError as error:
        raise InputError(f"repair or remove {error.filename}: {error.strerror}") from error
    key = md5(repr((_converter(), state)).encode())
    # A damaged cache may raise almost anything; it is rewritten.
    limit = (len(files) + 100) * (IMAGE_SIZE**2 + 1)  # room for the key, the headers and the compressor's own bytes
    with contextlib.suppress(Exception), np.load(io.BytesIO(read_regular_file(folder / CACHE, limit))) as cache:
        members = cache.zip.infolist()
        fits = sum(member.file_size for member in members) <= limit
        # zipfile expands other kinds of compression without a limit.
        fits = fits and all(member.compress_type == zipfile.ZIP_DEFLATED for member in members)
        if fits and str(cache["key"]) == key and cache["images"].shape == (len(files), IMAGE_SIZE, IMAGE_SIZE):
            return np.asarray(cache["images"], np.uint8)
    say(f"data: reading {len(files):,} pictures from {folder}", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        results = list(threads.map(_read, files))
    if errors := [f"{path}: {result}" for path, result in zip(files, results, strict=True) if isinstance(result, str)]:
        more = f"; and {len(errors) - MAX_LISTED:,} more" if len(errors) > MAX_LISTED else ""
        raise InputError(f"repair or remove {'; '.join(errors[:MAX_LISTED])}{more}")
    images = np.stack([result for result in results if not isinstance(result, str)])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, key=np.array(key), images=images)
    with contextlib.suppress(OSError):  # a read-only folder gets no cache
        write_atomic(folder / CACHE, buffer.getbuffer())
    return images


def _converter() -> tuple[str, ...]:
    """What decides how a picture is converted: our code, and the versions of OpenCV and Pillow."""
    return md5(b"".join(path.read_bytes() for path in sorted(IMAGING.glob("*.py")))), cv2.__version__, PIL.__version__


def _read(path: Path) -> NDArray[np.uint8] | str:
    """A picture's digit, uint8 (28, 28), or the reason why it has none."""
    try:
        found = find_digit(open_picture(path))
    except InputError as error:
        return str(error)
    return found.image if found else "the picture is blank"
