"""A published file from the first mirror that gives it, in memory and whole. The standard library and Rich's bar only.

Nothing is written: a file cut off, or the wrong one, leaves no trace. Knows nothing about datasets.
"""

import hashlib
import time
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["TIMEOUT", "Unavailable", "digest", "download"]

TIMEOUT = 600.0  # seconds a mirror may take for a file; the largest has 30 MB
SILENCE = 10  # seconds without a byte after which a mirror is given up
LIMIT = 256 << 20  # bytes; no file of these datasets has a tenth of it


class Unavailable(OSError):
    """No mirror gave the file. The message says of each what it did."""


def digest(data: bytes) -> str:
    """md5, as the datasets' own lists give it: against accidents, not against attackers."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def download(file: str, mirrors: Sequence[str], md5: str, timeout: float) -> tuple[bytes, str]:
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
            if digest(data) == md5:
                return data, mirror
            page = " (a web page)" if data.lstrip()[:1] == b"<" else ""
            reasons.append(f"{mirror}: sent {len(data):,} bytes that are not this file{page}")
    raise Unavailable("; ".join(reasons) or "no mirror was named")


def _get(url: str, file: str, timeout: float) -> bytes:
    deadline = time.monotonic() + timeout
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        urlopen(Request(url, headers={"User-Agent": "mnist-lit"}), timeout=min(SILENCE, timeout)) as response,
    ):
        total = response.headers.get("Content-Length")
        bar = progress.add_task(file, total=int(total) if total else None)
        data = bytearray()
        while chunk := _arrived(response, data):
            data += chunk
            progress.update(bar, completed=len(data))
            if time.monotonic() > deadline:
                raise ValueError(f"was not done after {timeout:g} s")
            if len(data) > LIMIT:
                raise ValueError(f"sent more than {LIMIT:,} bytes")
    if total and len(data) < int(total):
        raise ConnectionError(f"cut off after {len(data):,} of {int(total):,} bytes")
    return bytes(data)


def _arrived(response: Any, so_far: bytearray) -> bytes:
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
