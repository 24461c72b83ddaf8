"""Which file is meant by a model's name: a path, a run, the newest run, the shipped one. The standard library only."""

import json
from pathlib import Path

from mnist_lit import runs
from mnist_lit.errors import InputError
from mnist_lit.suggest import nearest

__all__ = ["LATEST", "PRETRAINED", "SHIPPED", "is_shipped", "locate", "published"]

LATEST, PRETRAINED = "latest", "pretrained"  # the newest run's best checkpoint, and the shipped model
SHIPPED = Path(__file__).parent / PRETRAINED  # model.onnx, model.ckpt and provenance.json


def locate(model: str | Path | None, shipped: str = "model.ckpt") -> Path:
    """The model's file: a path, a run by its folder or its name, `latest` or `pretrained`.

    None is `latest` where there is a run, else `pretrained`. shipped: which of its files is meant then.
    Raises InputError where there is no such file.
    """
    if model is None or str(model) == LATEST:
        try:
            return runs.newest(Path(runs.LOGS))
        except InputError:
            if model:
                raise
            model = PRETRAINED
    if str(model) == PRETRAINED:
        return SHIPPED / shipped
    for path in (Path(model), Path(runs.LOGS, model)):
        found = runs.best(path) if path.is_dir() else path
        if found and found.is_file():
            return found
    near = nearest(str(model), [LATEST, PRETRAINED, *map(runs.name, runs.all_of(Path(runs.LOGS)))])
    raise InputError(f"no model at {model}{near or f'; want a file, a run, {LATEST} or {PRETRAINED}'}")


def is_shipped(path: Path) -> bool:
    """Whether a file is one of the shipped model's."""
    return path.resolve().parent == SHIPPED.resolve()


def published() -> str:
    """What the shipped model's provenance says of its score, in one line."""
    told = json.loads(SHIPPED.joinpath("provenance.json").read_text(encoding="utf-8"))["test"]
    return f"{told['accuracy']:.2%} (mean of n = {told['n']} seeds {told['mean']:.3%} ± {told['sd']:.3%})"
