"""The four published files of a dataset: found or downloaded, verified, mended; bytes out.

The archives are enough: they are read where they lie, and nothing is extracted beside them. Knows no tensors.
"""

import contextlib
import gzip
import shlex
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from mnist_lit.download import TIMEOUT, Unavailable, digest, download
from mnist_lit.errors import InputError
from mnist_lit.files import sweep, write_whole

__all__ = ["EXTRACTED", "FILES", "TORCHVISION", "fetch", "read"]

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
WAY_OUT = "put the four .gz into {folder} by hand, or try `mnist-lit fit --config quickstart`, which needs no download"


def read(dataset: str, data_dir: Path) -> dict[str, bytes]:
    """The contents of each part's file as they were published.

    Looks in `data_dir/MNIST/raw` (torchvision's layout; `FashionMNIST`, `KMNIST`) and in `data_dir` itself, for the
    IDX files or their `.gz`. Raises InputError where one is missing or damaged; nothing is downloaded here.
    """
    parts = {}
    for part, name in FILES.items():
        data, damaged = _copies(dataset, data_dir, name)
        if data is None:
            what = _complaint(dataset, data_dir, name, damaged)
            command = f"mnist-lit data --dataset {dataset} --data_dir {shlex.quote(str(data_dir))}"
            raise InputError(f"{what}; `{command}` fetches it")
        parts[part] = data
    return parts


def fetch(dataset: str, data_dir: Path, mirrors: str | Sequence[str] | None = None, timeout: float = TIMEOUT) -> None:
    """Download what `read` would refuse and mend what is damaged, in `data_dir/MNIST/raw`; say what was done.

    mirrors: addresses in the place of torchvision's, a list or parted by commas. timeout: seconds each may take for a
    file. Of processes that start together one downloads and the others wait. Files are written aside and renamed. A
    damaged extracted file is written anew from its archive. Raises InputError where a file cannot be had.
    """
    if timeout <= 0:
        raise InputError(f"data.timeout: want seconds above 0, got {timeout:g}")
    if not _to_mend(dataset, data_dir):
        return
    folder = _folders(dataset, data_dir)[0]
    try:
        with _alone(folder):
            sweep(folder)
            addresses = mirrors.split(",") if isinstance(mirrors, str) else mirrors
            for name in _to_mend(dataset, data_dir):  # asked again: another process may have been here
                _mend(dataset, data_dir, name, addresses or _torchvision(dataset).mirrors, timeout)
    except OSError as error:
        reason = f"cannot write to {error.filename or folder}: {error.strerror or error}"
        if any(_copies(dataset, data_dir, name).data is None for name in FILES.values()):
            raise InputError(f"{reason}; choose another --data.data_dir") from error
        print(f"data: {reason}; a damaged file stays there, its contents are whole in another")


def _folders(dataset: str, data_dir: Path) -> tuple[Path, Path]:
    return data_dir / TORCHVISION[dataset] / "raw", data_dir


def _torchvision(dataset: str) -> Any:
    """torchvision's class: it knows the mirrors and the archives' md5. Imported only where they are needed."""
    import torchvision

    return getattr(torchvision.datasets, TORCHVISION[dataset])


def _archive_digest(dataset: str, name: str) -> str:
    return str(dict(_torchvision(dataset).resources)[f"{name}.gz"])


class _Copies(NamedTuple):
    """What there is of one published file."""

    data: bytes | None  # its contents as they were published
    damaged: list[Path]


def _copies(dataset: str, data_dir: Path, name: str) -> _Copies:
    """Read every copy of a file: packed or extracted, in torchvision's folder or the data's own."""
    wanted = EXTRACTED.get(dataset, {}).get(name)
    data, others = None, []
    for folder in _folders(dataset, data_dir):
        for path in (folder / f"{name}.gz", folder / name):
            if not path.exists():
                continue
            packed = contents = b""
            with contextlib.suppress(OSError, EOFError, zlib.error):
                packed = path.read_bytes()
                contents = gzip.decompress(packed) if path.suffix == ".gz" else packed
            known = digest(contents) == wanted if wanted else digest(packed) == _archive_digest(dataset, name)
            if known:
                data = contents
            else:
                others.append((path, contents))
    return _Copies(data, [path for path, contents in others if contents != data])


def _complaint(dataset: str, data_dir: Path, name: str, damaged: list[Path]) -> str:
    """What is wrong with a file. What may be another dataset's is not called damaged."""
    archive = _folders(dataset, data_dir)[0] / f"{name}.gz"
    for path in damaged:
        if path == archive or (path.parent == archive.parent and dataset in EXTRACTED):
            return f"{path} is damaged"
    return f"no {archive}" + (f" ({damaged[0]} is not the published file)" if damaged else "")


def _to_mend(dataset: str, data_dir: Path) -> list[str]:
    """The files that are missing, and those with a damaged copy in the folder that is ours."""
    folder = _folders(dataset, data_dir)[0]
    copies = {name: _copies(dataset, data_dir, name) for name in FILES.values()}
    return [n for n, c in copies.items() if c.data is None or any(path.parent == folder for path in c.damaged)]


def _mend(dataset: str, data_dir: Path, name: str, mirrors: Sequence[str], timeout: float) -> None:
    """Download an archive that is missing or damaged; write damaged extracted files anew."""
    data, damaged = _copies(dataset, data_dir, name)
    archive = _folders(dataset, data_dir)[0] / f"{name}.gz"
    folder = archive.parent
    if data is None or archive in damaged:
        try:
            packed, mirror = download(archive.name, mirrors, _archive_digest(dataset, name), timeout)
        except Unavailable as error:
            state = f"{_complaint(dataset, data_dir, name, damaged)}, and no mirror gives it ({error})"
            if data is None:
                raise InputError(f"{state}; {WAY_OUT.format(folder=folder)}") from error
            print(f"data: {state}; its contents are whole in another file")
        else:
            write_whole(archive, packed)
            print(f"data: fetched {archive} ({len(packed):,} bytes) from {mirror}", flush=True)
            data = gzip.decompress(packed)
    for path in damaged:
        if path.parent == folder and path != archive and path.read_bytes() != data:
            write_whole(path, data)
            print(f"data: mended {path}", flush=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time into a folder, made if need be; what is still empty afterwards is removed."""
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    lock = FileLock(folder / ".lock", thread_local=False)
    waits = False
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=10 if waits else 0)
            break
        except FileNotFoundError:  # another one left, and took the empty folder with it
            continue
        except Timeout:
            if not waits:
                print(f"data: another process is downloading to {folder}; waiting for it", flush=True)
            waits = True
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
