"""The shipped recipes, found by name, and the shipped model. The standard library only."""

import json
from pathlib import Path

from mnist_lit.errors import InputError
from mnist_lit.suggest import nearest

__all__ = ["PRETRAINED", "SHIPPED", "find", "folder", "name", "names", "published"]

PRETRAINED = "pretrained"  # the shipped model's name
SHIPPED = Path(__file__).parent / PRETRAINED  # model.onnx, model.ckpt and provenance.json


def folder() -> Path:
    """Where the shipped recipes lie: inside the package in a wheel, beside `src` in a checkout."""
    installed = Path(__file__).with_name("configs")
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


def names() -> list[str]:
    """The shipped recipes' names."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def find(name: str) -> Path:
    """The config at a path, or else the shipped recipe of that name. Raises InputError where there is neither."""
    try:
        path = next((path for path in (Path(name), folder() / f"{name}.yaml") if path.is_file()), None)
    except OSError:  # no file can have such a name
        path = None
    if path is None:
        raise InputError(f"no config at {name}{nearest(Path(name).stem, names())} (recipes: {', '.join(names())})")
    return path


def name(arg: str) -> str:
    """A shipped recipe's name, of its path; anything else as it is."""
    return {str(folder() / f"{name}.yaml"): name for name in names()}.get(arg, arg)


def published() -> str:
    """What the shipped model's provenance says of its score, in one line."""
    told = json.loads(SHIPPED.joinpath("provenance.json").read_text(encoding="utf-8"))["test"]
    return f"{told['accuracy']:.2%} (mean of n = {told['n']} seeds {told['mean']:.3%} ± {told['sd']:.3%})"
