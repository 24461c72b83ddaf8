"""The four published files of a dataset: found or downloaded, verified, mended; bytes out.

The archives are enough: they are read where they lie, and nothing is extracted beside them. Knows no tensors.
"""

import contextlib
import gzip
import hashlib
import shlex
import time
import zlib
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mnist_lit.errors import InputError
from mnist_lit.system.atomic_file import remove_partial_files, write_atomic

__all__ = [
    "DEFAULT_TIMEOUT",
    "EXTRACTED_MD5",
    "IDX_FILES",
    "TORCHVISION_CLASSES",
    "AllMirrorsFailed",
    "download_dataset",
    "download_file",
    "md5",
    "read_archives",
]

DEFAULT_TIMEOUT = 600.0  # seconds a mirror may take for a file; the largest has 30 MB
STALL_TIMEOUT = 10  # seconds without a byte after which a mirror is given up
MAX_BYTES = 256 << 20  # bytes; no file of these datasets has a tenth of it


class AllMirrorsFailed(OSError):
    """No mirror gave the file. The message says of each what it did."""


def md5(data: bytes) -> str:
    """md5, as the datasets' own lists give it: against accidents, not against attackers."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def download_file(file: str, mirrors: Sequence[str], expected_md5: str, timeout: float) -> tuple[bytes, str]:
    """The file of that name and md5, and the mirror that gave it.

    mirrors: addresses to which the name is appended, tried in turn. timeout: seconds the file's bytes may take; a
    mirror that is silent for ten is given up sooner. Raises Unavailable. A bar shows on a terminal.
    """
    reasons = []
    for mirror in mirrors:
        try:
            data = _get(f"{mirror.rstrip('/')}/{file}", file, timeout)
        except (OSError, HTTPException, ValueError) as error:
            reasons.append(f"{mirror}: {_reason(error)}")
        else:
            if md5(data) == expected_md5:
                return data, mirror
            page = " (a web page)" if data.lstrip()[:1] == b"<" else ""
            reasons.append(f"{mirror}: sent {len(data):,} bytes that are not this file{page}")
    raise AllMirrorsFailed("; ".join(reasons) or "no mirror was named")


def _get(url: str, file: str, timeout: float) -> bytes:
    deadline = time.monotonic() + timeout
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        urlopen(Request(url, headers={"User-Agent": "mnist-lit"}), timeout=min(STALL_TIMEOUT, timeout)) as response,
    ):
        total = response.headers.get("Content-Length")
        bar = progress.add_task(file, total=int(total) if total else None)
        data = bytearray()
        while chunk := _next_chunk(response, data):
            data += chunk
            progress.update(bar, completed=len(data))
            if time.monotonic() > deadline:
                raise ValueError(f"was not done after {timeout:g} s")
            if len(data) > MAX_BYTES:
                raise ValueError(f"sent more than {MAX_BYTES:,} bytes")
    if total and len(data) < int(total):
        raise ConnectionError(f"cut off after {len(data):,} of {int(total):,} bytes")
    return bytes(data)


def _next_chunk(response: Any, so_far: bytearray) -> bytes:
    """The next bytes, without waiting for more than there are: a slow mirror must not outlast its time."""
    try:
        return bytes(response.read1(1 << 16))
    except TimeoutError as error:
        raise ConnectionError(f"fell silent after {len(so_far):,} bytes") from error


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"answered {error.code} {error.reason}"
    inner = error.reason if isinstance(error, URLError) else error
    if isinstance(inner, TimeoutError):
        return "no answer in time"
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


IDX_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
TORCHVISION_CLASSES = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
}  # its class and its folder
EXTRACTED_MD5 = {  # md5 of the extracted files; where it is not known, the archive's own md5 vouches for what is in it
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
}
ALTERNATIVES = (
    "put the four .gz into {folder} by hand, or try `mnist-lit fit --config quickstart`, which needs no download"
)


def read_archives(dataset: str, data_dir: Path) -> dict[str, bytes]:
    """The contents of each part's file as they were published.

    Looks in `data_dir/MNIST/raw` (torchvision's layout; `FashionMNIST`, `KMNIST`) and in `data_dir` itself, for the
    IDX files or their `.gz`. Raises InputError where one is missing or damaged; nothing is downloaded here.
    """
    parts = {}
    for part, name in IDX_FILES.items():
        data, damaged = _find_copies(dataset, data_dir, name)
        if data is None:
            what = _describe_problem(dataset, data_dir, name, damaged)
            command = f"mnist-lit data --dataset {dataset} --data_dir {shlex.quote(str(data_dir))}"
            raise InputError(f"{what}; `{command}` fetches it")
        parts[part] = data
    return parts


def download_dataset(
    dataset: str, data_dir: Path, mirrors: str | Sequence[str] | None = None, timeout: float = DEFAULT_TIMEOUT
) -> None:
    """Download what `read` would refuse and mend what is damaged, in `data_dir/MNIST/raw`; say what was done.

    mirrors: addresses in the place of torchvision's, a list or parted by commas. timeout: seconds each may take for a
    file. Of processes that start together one downloads and the others wait. Files are written aside and renamed. A
    damaged extracted file is written anew from its archive. Raises InputError where a file cannot be had.
    """
    if timeout <= 0:
        raise InputError(f"data.timeout: expected seconds above 0, got {timeout:g}")
    if not _files_to_repair(dataset, data_dir):
        return
    folder = _folders(dataset, data_dir)[0]
    try:
        with _folder_lock(folder):
            remove_partial_files(folder)
            addresses = mirrors.split(",") if isinstance(mirrors, str) else mirrors
            for name in _files_to_repair(dataset, data_dir):  # asked again: another process may have been here
                _repair(dataset, data_dir, name, addresses or _torchvision_class(dataset).mirrors, timeout)
    except OSError as error:
        reason = f"cannot write to {error.filename or folder}: {error.strerror or error}"
        if any(_find_copies(dataset, data_dir, name).data is None for name in IDX_FILES.values()):
            raise InputError(f"{reason}; choose another --data.data_dir") from error
        print(f"data: {reason}; a damaged file stays there, its contents are whole in another")


def _folders(dataset: str, data_dir: Path) -> tuple[Path, Path]:
    return data_dir / TORCHVISION_CLASSES[dataset] / "raw", data_dir


def _torchvision_class(dataset: str) -> Any:
    """torchvision's class: it knows the mirrors and the archives' md5. Imported only where they are needed."""
    import torchvision

    return getattr(torchvision.datasets, TORCHVISION_CLASSES[dataset])


def _archive_md5(dataset: str, name: str) -> str:
    return str(dict(_torchvision_class(dataset).resources)[f"{name}.gz"])


class _Copies(NamedTuple):
    """What there is of one published file."""

    data: bytes | None  # its contents as they were published
    damaged: list[Path]


def _find_copies(dataset: str, data_dir: Path, name: str) -> _Copies:
    """Read every copy of a file: packed or extracted, in torchvision's folder or the data's own."""
    wanted = EXTRACTED_MD5.get(dataset, {}).get(name)
    data, others = None, []
    for folder in _folders(dataset, data_dir):
        for path in (folder / f"{name}.gz", folder / name):
            if not path.exists():
                continue
            packed = contents = b""
            with contextlib.suppress(OSError, EOFError, zlib.error):
                packed = path.read_bytes()
                contents = gzip.decompress(packed) if path.suffix == ".gz" else packed
            known = md5(contents) == wanted if wanted else md5(packed) == _archive_md5(dataset, name)
            if known:
                data = contents
            else:
                others.append((path, contents))
    return _Copies(data, [path for path, contents in others if contents != data])


def _describe_problem(dataset: str, data_dir: Path, name: str, damaged: list[Path]) -> str:
    """What is wrong with a file. What may be another dataset's is not called damaged."""
    archive = _folders(dataset, data_dir)[0] / f"{name}.gz"
    for path in damaged:
        if path == archive or (path.parent == archive.parent and dataset in EXTRACTED_MD5):
            return f"{path} is damaged"
    return f"no {archive}" + (f" ({damaged[0]} is not the published file)" if damaged else "")


def _files_to_repair(dataset: str, data_dir: Path) -> list[str]:
    """The files that are missing, and those with a damaged copy in the folder that is ours."""
    folder = _folders(dataset, data_dir)[0]
    copies = {name: _find_copies(dataset, data_dir, name) for name in IDX_FILES.values()}
    return [n for n, c in copies.items() if c.data is None or any(path.parent == folder for path in c.damaged)]


def _repair(dataset: str, data_dir: Path, name: str, mirrors: Sequence[str], timeout: float) -> None:
    """Download an archive that is missing or damaged; write damaged extracted files anew."""
    data, damaged = _find_copies(dataset, data_dir, name)
    archive = _folders(dataset, data_dir)[0] / f"{name}.gz"
    folder = archive.parent
    if data is None or archive in damaged:
        try:
            packed, mirror = download_file(archive.name, mirrors, _archive_md5(dataset, name), timeout)
        except AllMirrorsFailed as error:
            state = f"{_describe_problem(dataset, data_dir, name, damaged)}, and no mirror gives it ({error})"
            if data is None:
                raise InputError(f"{state}; {ALTERNATIVES.format(folder=folder)}") from error
            print(f"data: {state}; its contents are whole in another file")
        else:
            write_atomic(archive, packed)
            print(f"data: fetched {archive} ({len(packed):,} bytes) from {mirror}", flush=True)
            data = gzip.decompress(packed)
    for path in damaged:
        if path.parent == folder and path != archive and path.read_bytes() != data:
            write_atomic(path, data)
            print(f"data: mended {path}", flush=True)


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
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
