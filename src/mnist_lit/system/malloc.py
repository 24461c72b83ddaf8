"""Make glibc keep freed memory instead of returning it to the kernel: by default it maps buffers as large as a training
step's separately, and faulting in and unmapping their pages costs a third of the images per second on a CPU."""

import ctypes
import sys
from typing import Any

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for later allocations. Does nothing and returns False without glibc."""
    libc: Any = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    options = ((M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20))
    return hasattr(libc, "gnu_get_libc_version") and all(libc.mallopt(option, size) for option, size in options)
