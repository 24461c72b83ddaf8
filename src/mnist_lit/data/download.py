"""The four published files of a dataset: found on disk or downloaded, verified, repaired; returned as bytes. Written by
hand because `pooch` has no mirrors, lock or limit on the total time, and writes a file before verifying it."""

import contextlib
import gzip
import hashlib
import io
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
from rich.progress import DownloadColumn, Progress

from mnist_lit.errors import InputError, require
from mnist_lit.system.atomic_file import remove_partial_files, write_atomic
from mnist_lit.system.console import say
from mnist_lit.system.folder_lock import LOCK, remove_lock
from mnist_lit.system.regular_file import read_regular_file

DEFAULT_TIMEOUT = 600.0  # seconds per mirror and file; the largest file is 30 MB
STALL_TIMEOUT = 10  # seconds without a byte before a mirror is abandoned
MAX_BYTES = 16 + 60_000 * 28 * 28  # size of the largest of these files, the extracted training images
IDX_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
IDX_DATASETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}  # also folder names
TORCHVISION_DATASETS = ("emnist", "qmnist")  # torchvision downloads and verifies these itself
EXTRACTED_MD5 = {  # md5 of the extracted files; for other datasets only the archives' md5 is known, from torchvision
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
}


class AllMirrorsFailed(OSError):
    """No mirror provided the file; the message gives each mirror's reason."""


def md5(data: bytes) -> str:
    """The md5 hex digest, which the datasets publish: it detects accidents, not attacks."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def read_archives(dataset: str, data_dir: Path) -> dict[str, bytes]:
    """The verified contents of each file in `IDX_FILES`, by part. Looks for the IDX files and their `.gz` in
    `data_dir/MNIST/raw` (torchvision's layout; `FashionMNIST`, `KMNIST`) and in `data_dir` itself, and reads them in
    place. Downloads nothing. Raises InputError if one is missing or damaged."""
    parts = {}
    for part, name in IDX_FILES.items():
        copies = _find_copies(dataset, data_dir, name)
        if copies.data is None:
            command = f"mnist-lit data --dataset {dataset} --data_dir {shlex.quote(str(data_dir))}"
            raise InputError(f"{copies.problem}; download it with `{command}`")
        parts[part] = copies.data
    return parts


def download_dataset(
    dataset: str, data_dir: Path, mirrors: str | Sequence[str] | None = None, timeout: float = DEFAULT_TIMEOUT
) -> None:
    """Download missing files and repair damaged ones in `data_dir/MNIST/raw`, printing a line for each. Of concurrent
    processes, one downloads and the others wait. mirrors: base URLs that replace torchvision's, a list or separated by
    commas. timeout: seconds per mirror and file. Raises InputError if a file cannot be obtained."""
    require("data.timeout", f"{timeout:g}", "seconds above 0", timeout > 0)
    if not _files_to_repair(dataset, data_dir):
        return
    folder = data_dir / IDX_DATASETS[dataset] / "raw"
    try:
        with download_lock(folder):
            remove_partial_files(folder)
            given = mirrors.split(",") if isinstance(mirrors, str) else mirrors or ()
            urls = [url.strip() for url in given if url.strip()]
            for copies in _files_to_repair(dataset, data_dir):  # again: another process may have repaired some
                _repair(dataset, copies, urls or _torchvision_class(dataset).mirrors, timeout)
    except OSError as error:
        reason = f"cannot write to {error.filename or folder}: {error.strerror or error}"
        if any(copies.data is None for copies in _files_to_repair(dataset, data_dir)):
            raise InputError(f"{reason}; choose another --data.data_dir") from error
        say(f"data: {reason}; a damaged file remains, an intact copy is used instead")


def download_file(file: str, mirrors: Sequence[str], expected_md5: str, timeout: float) -> tuple[bytes, str]:
    """Download a file into memory and verify it; returns its bytes and the mirror that provided them. mirrors: base
    URLs to which the file name is appended, tried in turn. timeout: seconds per mirror; one that sends nothing for ten
    seconds is abandoned sooner. Shows a progress bar on a terminal. Raises AllMirrorsFailed."""
    reasons = []
    for mirror in mirrors:
        try:
            data = _get(f"{mirror.rstrip('/')}/{file}", file, timeout)
            if md5(data) == expected_md5:
                return data, mirror
            page = " (a web page)" if data.lstrip()[:1] == b"<" else ""
            reasons.append(f"{mirror}: sent {len(data):,} bytes that are not this file{page}")
        except HTTPError as error:
            reasons.append(f"{mirror}: answered {error.code} {error.reason}")
        except (OSError, HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
            reasons.append(f"{mirror}: {'no answer in time' if isinstance(cause, TimeoutError) else reason}")
    raise AllMirrorsFailed("; ".join(reasons) or "no mirrors given")


def _get(url: str, file: str, timeout: float) -> bytes:
    """GET a URL into memory. urllib's timeout applies to each socket operation, so the total is checked per chunk."""
    deadline = time.monotonic() + timeout
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), DownloadColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    request = Request(url, headers={"User-Agent": "mnist-lit"})
    data = bytearray()
    with progress, urlopen(request, timeout=min(STALL_TIMEOUT, timeout)) as response:
        size = int(response.headers.get("Content-Length") or 0)
        bar = progress.add_task(file, total=size or None)
        try:
            while chunk := response.read1(1 << 16):  # unlike `read`, returns what has arrived instead of waiting
                data += chunk
                progress.update(bar, completed=len(data))
                if time.monotonic() > deadline:
                    raise ValueError(f"not finished after {timeout:g} s")
                if len(data) > MAX_BYTES:
                    raise ValueError(f"sent more than {MAX_BYTES:,} bytes")
        except TimeoutError as error:
            raise ConnectionError(f"stalled after {len(data):,} bytes") from error
    if len(data) < size:
        raise ConnectionError(f"cut off after {len(data):,} of {size:,} bytes")
    return bytes(data)


def _torchvision_class(dataset: str) -> Any:
    """torchvision's dataset class, which lists mirrors and the archives' md5; imported only where needed."""
    import torchvision

    return getattr(torchvision.datasets, IDX_DATASETS[dataset])


class _Copies(NamedTuple):
    archive: Path  # where a download is saved: the `.gz` in our folder
    data: bytes | None  # verified contents; None without an intact copy
    damaged: list[Path]  # copies with other contents
    problem: str  # what is wrong, for a message
    by_hand: str  # what to do without a mirror


def _files_to_repair(dataset: str, data_dir: Path) -> list[_Copies]:
    """The files without an intact copy, and those with a damaged copy in our folder."""
    files = [_find_copies(dataset, data_dir, name) for name in IDX_FILES.values()]
    return [file for file in files if file.data is None or any(p.parent == file.archive.parent for p in file.damaged)]


def _find_copies(dataset: str, data_dir: Path, name: str) -> _Copies:
    """Read every copy of a file, archived or extracted, in either folder."""
    archive = data_dir / IDX_DATASETS[dataset] / "raw" / f"{name}.gz"
    extracted_md5 = EXTRACTED_MD5.get(dataset, {}).get(name)
    expected = extracted_md5 or dict(_torchvision_class(dataset).resources)[archive.name]
    data, found = None, dict[Path, bytes]()
    paths = (folder / file for folder in (archive.parent, data_dir) for file in (archive.name, name))
    for path in filter(Path.exists, paths):
        raw = _read(path)
        found[path] = _extract(raw) if path.suffix == ".gz" else raw
        if md5(found[path] if extracted_md5 else raw) == expected:
            data = found[path]
    damaged = [path for path, contents in found.items() if contents != data]
    # The same file names are used by every dataset, so an unverified file elsewhere may be another dataset's.
    ours = [path for path in damaged if path == archive or (extracted_md5 and path.parent == archive.parent)]
    unknown = f" ({damaged[0]} is not the published file)" if damaged else ""
    if ours:
        return _Copies(archive, data, damaged, f"{ours[0]} is damaged", "replace that file")
    return _Copies(archive, data, damaged, f"no {archive}{unknown}", f"put the four .gz files into {archive.parent}")


def _read(path: Path) -> bytes:
    """A copy's bytes: empty if it is unreadable, and at most one byte more than the largest file here."""
    with contextlib.suppress(OSError):
        return read_regular_file(path, MAX_BYTES + 1)
    return b""


def _extract(archive: bytes) -> bytes:
    """An archive's contents, limited as in `_read`: a small archive can hold gigabytes."""
    with contextlib.suppress(OSError, EOFError, zlib.error):
        return gzip.GzipFile(fileobj=io.BytesIO(archive)).read(MAX_BYTES + 1)
    return b""


def _repair(dataset: str, copies: _Copies, mirrors: Sequence[str], timeout: float) -> None:
    """Download an archive that is missing or damaged; rewrite damaged extracted files from intact contents."""
    archive, data, damaged, problem, by_hand = copies
    if data is None or archive in damaged:
        try:
            expected = dict(_torchvision_class(dataset).resources)[archive.name]
            packed, mirror = download_file(archive.name, mirrors, expected, timeout)
        except AllMirrorsFailed as error:
            failure = f"{problem}, and every mirror failed ({error})"
            if data is None:
                other = "`mnist-lit fit --config quickstart`, which needs no download"
                raise InputError(f"{failure}; {by_hand} by hand, or try {other}") from error
            say(f"data: {failure}; an intact copy is used instead")
        else:
            write_atomic(archive, packed)
            say(f"data: downloaded {archive} ({len(packed):,} bytes) from {mirror}", flush=True)
            data = _extract(packed)
    for path in damaged:
        if path.parent == archive.parent and path != archive and _read(path) != data:
            write_atomic(path, data)
            say(f"data: repaired {path}", flush=True)


# The lock file is removed at the end, and with it every folder created here that is still empty, so that a failed
# download leaves nothing behind. A waiting process may therefore find that the folder has disappeared, and create it
# again.
@contextlib.contextmanager
def download_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time into a folder, creating it if needed."""
    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    lock = FileLock(folder / LOCK, thread_local=False)
    patience = 0
    while not lock.is_locked:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=patience)
        except NotImplementedError:  # the file system has no locks
            break
        except FileNotFoundError:  # the process that held the lock removed the empty folder
            continue
        except Timeout:
            if not patience:
                say(f"data: another process is downloading to {folder}; waiting for it", flush=True)
            patience = 10
    try:
        yield
    finally:
        remove_lock(lock)
        for parent in created:
            with contextlib.suppress(OSError):
                parent.rmdir()
