"""Where a fit begins, see `runs.resume`."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass
class RunStart:
    """Where a fit begins. Rank 0 decides; the other processes learn it once they can communicate."""

    run: Path | None = None  # the run folder; None: no files are written
    checkpoint: Path | None = None  # to resume from; None: from the start
    continues: bool = False  # in an existing folder, with `--resume auto`
    finished: bool = False  # nothing left to do
    has_trained: bool = False  # whether this process has trained on a batch


def discard_run(start: RunStart) -> None:
    """Remove the run folder of a fit that was refused, if it was created for this fit, no step was taken in it and it
    holds no checkpoint: another process may have trained."""
    is_unused = not (start.continues or start.finished or start.has_trained)
    if start.run and is_unused and not any(start.run.rglob("*.ckpt")):
        shutil.rmtree(start.run, ignore_errors=True)
        with suppress(OSError):
            start.run.parent.rmdir()  # if it is empty
