"""glibc keeps freed memory."""

import platform
import subprocess
import sys

import pytest

from mnist_lit.system.malloc import keep_freed_memory

PROGRAM = """
import resource, sys
from mnist_lit.system.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
buffer = bytearray(64 << 20); del buffer
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    buffer = bytearray(b"x") * (64 << 20); del buffer
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator only")
def test_freed_buffers_are_not_faulted_in_again() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True).stdout)
        for how in ("keep", "default")
    }
    assert keep_freed_memory()
    assert faults["keep"] * 5 < faults["default"]
