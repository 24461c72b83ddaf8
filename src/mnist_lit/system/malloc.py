"""Memory that is kept rather than handed back to the kernel after each operation. The standard library only.

A step's large buffers would otherwise be unmapped and faulted in again at every layer: glibc's default costs a third
of the images a second on a CPU.
"""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next allocation. False, and nothing done, where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    kept = libc.mallopt(M_MMAP_THRESHOLD, 1 << 30) and libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    return bool(kept and libc.mallopt(M_TOP_PAD, 64 << 20))
