"""Which file is meant by a model's name: a path, a run, the newest run, the shipped one. The standard library only."""

import json
from pathlib import Path

from mnist_lit.errors import InputError
from mnist_lit.runs.folders import LOGS, all_runs, best_checkpoint, newest_checkpoint, run_name
from mnist_lit.system.arguments import did_you_mean

__all__ = ["LATEST", "PRETRAINED", "PRETRAINED_DIR", "is_pretrained", "locate_model", "published_score"]

LATEST, PRETRAINED = "latest", "pretrained"  # the newest run's best checkpoint, and the shipped model
PRETRAINED_DIR = Path(__file__).parents[1] / PRETRAINED  # model.onnx, model.ckpt and provenance.json


def locate_model(model: str | Path | None, shipped: str = "model.ckpt") -> Path:
    """The model's file: a path, a run by its folder or its name, `latest` or `pretrained`.

    None is `latest` where there is a run, else `pretrained`. shipped: which of its files is meant then.
    Raises InputError where there is no such file.
    """
    if model is None or str(model) == LATEST:
        try:
            return newest_checkpoint(Path(LOGS))
        except InputError:
            if model:
                raise
            model = PRETRAINED
    if str(model) == PRETRAINED:
        return PRETRAINED_DIR / shipped
    for path in (Path(model), Path(LOGS, model)):
        found = best_checkpoint(path) if path.is_dir() else path
        if found and found.is_file():
            return found
    near = did_you_mean(str(model), [LATEST, PRETRAINED, *map(run_name, all_runs(Path(LOGS)))])
    raise InputError(f"no model at {model}{near or f'; expected a file, a run, {LATEST} or {PRETRAINED}'}")


def is_pretrained(path: Path) -> bool:
    """Whether a file is one of the shipped model's."""
    return path.resolve().parent == PRETRAINED_DIR.resolve()


def published_score() -> str:
    """What the shipped model's provenance says of its score, in one line."""
    told = json.loads(PRETRAINED_DIR.joinpath("provenance.json").read_text(encoding="utf-8"))["test"]
    return f"{told['accuracy']:.2%} (mean of n = {told['n']} seeds {told['mean']:.3%} ± {told['sd']:.3%})"
