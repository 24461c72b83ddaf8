"""Read paths that are not trusted: opening a pipe may block, and reading a device may never end."""

import errno
import os
import stat
from pathlib import Path

NONBLOCKING = getattr(os, "O_NONBLOCK", 0)  # otherwise opening a pipe waits for its other end


def read_regular_file(path: Path, max_bytes: int = -1, start: int = 0) -> bytes:
    """A file's content from `start` on, or `max_bytes` of it. Raises OSError, including for pipes and devices."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | NONBLOCKING)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "a pipe or a device, not a file", str(path))
        file.seek(start)
        return file.read(max_bytes)


def file_state(path: Path) -> tuple[int, ...] | None:
    """What changes if a file is replaced: its inode, size and modification time; None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
