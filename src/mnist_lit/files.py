"""Files that appear whole or not at all. The standard library only."""

import os
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, data: bytes) -> None:
    """Write beside the target, flush, rename: whoever opens it finds the old file or the new one.

    Raises OSError, and then leaves the target as it was and nothing beside it.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
