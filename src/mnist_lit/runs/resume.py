"""Resume a run that `runs.start` chose: hold its folder, find its newest readable checkpoint, restore its state."""

import sys
from pathlib import Path

from filelock import FileLock, Timeout

from mnist_lit.errors import InputError
from mnist_lit.runs.checkpoint import RESUME_KEYS, Metadata, load_checkpoint
from mnist_lit.runs.folders import BEST_CKPT, CHECKPOINTS, LAST_CKPT, PREVIOUS_CKPT
from mnist_lit.runs.loggers import truncate_logs
from mnist_lit.system.atomic_file import remove_partial_files


def lock_run(run: Path) -> FileLock | None:
    """Hold a run until this process ends, however it ends; None if another process holds it.

    Where the file system has no locks nothing is held. Raises InputError if the folder cannot be written.
    """
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except (PermissionError, FileNotFoundError) as error:
        raise InputError(f"cannot write to {run}: {error.strerror}") from error
    except (OSError, NotImplementedError):
        pass
    return lock


def newest_readable(run: Path) -> Path | None:
    """The newest checkpoint that can be resumed from; unreadable ones are reported."""
    for path in (run / CHECKPOINTS / name for name in (LAST_CKPT, PREVIOUS_CKPT, BEST_CKPT)):
        if path.exists():
            try:
                content = load_checkpoint(path)
                if missing := [key for key in RESUME_KEYS if key not in content]:
                    raise InputError(f"{path} has no {missing[0]}")
                return path
            except InputError as error:
                print(f"resume: skipping a checkpoint: {error}", file=sys.stderr)
    return None


def restore_run(run: Path, checkpoint: Path | None, fingerprint: str) -> None:
    """Bring a run folder back to the state of its checkpoint. Raises InputError if that was trained on other data."""
    metadata = Metadata.of(load_checkpoint(checkpoint)) if checkpoint else None
    if metadata and metadata.data != fingerprint:
        raise InputError(f"{checkpoint} was trained on other data than data.data_dir has; leave out --resume")
    for folder in (run, run / CHECKPOINTS):
        remove_partial_files(folder)
    if checkpoint and checkpoint.name == PREVIOUS_CKPT:  # else the next save would keep the damaged last.ckpt instead
        checkpoint.with_name(LAST_CKPT).unlink(missing_ok=True)
    truncate_logs(run, metadata.curves if metadata else {})
