"""Resolve a model's name to a file: a path, a run, the newest run or the shipped model. The standard library only."""

from pathlib import Path

from mnist_lit.errors import InputError
from mnist_lit.runs.folders import (
    CHECKPOINTS,
    LAST_CKPT,
    best_checkpoint,
    group_members,
    newest_checkpoint,
    paths_named,
    refuse_folder,
    run_names,
)
from mnist_lit.system.error_messages import did_you_mean

LATEST, LAST = "latest", "last"  # the newest run's best checkpoint, and its last, as in Lightning
PRETRAINED = "pretrained"  # the shipped model
MODEL_NAMES = f"{LATEST}, {LAST} or {PRETRAINED}"  # what names a model, besides a file and a run
PRETRAINED_DIR = Path(__file__).parents[1] / PRETRAINED  # model.onnx, model.ckpt and provenance.json


def locate_model(model: str | Path | None, shipped: str = "model.ckpt") -> Path:
    """The file of a model given by path, run folder, run name, `latest`, `last` or `pretrained`; None means `latest` if
    there is a run, otherwise `pretrained`. `shipped`: which file of the shipped model. Raises InputError if there is
    none."""
    if not isinstance(model, str | Path | None) or model == "":
        given = "nothing" if model == "" else type(model).__name__
        raise InputError(f"expected a model's file or name, got {given}; save a checkpoint and name that")
    if model is None or str(model) in (LATEST, LAST):
        try:
            best = newest_checkpoint()
            last = best.with_name(LAST_CKPT)
            return last if str(model) == LAST and last.is_file() else best
        except InputError:
            if model:
                raise
            model = PRETRAINED
    if str(model) == PRETRAINED:
        return PRETRAINED_DIR / shipped
    named = paths_named(model)
    for path in named:
        found = best_checkpoint(path) if path.is_dir() else path
        if found and found.is_file():
            return found
    for path in named:
        if files := sorted(path.glob(f"{CHECKPOINTS}/*.ckpt")):
            raise InputError(f"{path} was not trained by `mnist-lit fit`; name one of its files, such as {files[-1]}")
        if runs := group_members(path):
            raise InputError(f"{path} is a group of runs; name one of them, such as {runs[0]}")
        refuse_folder(path)
    if named and Path(model).exists():
        kind = "a folder without a checkpoint" if Path(model).is_dir() else "a pipe or a device"
        raise InputError(f"no model at {model}, which is {kind}; expected a file, a run, {MODEL_NAMES}")
    hint = did_you_mean(str(model), [LATEST, LAST, PRETRAINED, *run_names()])
    raise InputError(f"no model at {model}{hint or f'; expected a file, a run, {MODEL_NAMES}'}")


def is_pretrained(path: Path) -> bool:
    """Whether a file belongs to the shipped model."""
    return path.resolve().parent == PRETRAINED_DIR.resolve()
