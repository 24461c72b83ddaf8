"""The shipped recipes, found by name, and what is no part of a recipe. The standard library only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_lit.errors import InputError
from mnist_lit.suggest import nearest

__all__ = ["LOCAL", "find", "folder", "name", "names", "options"]

LOCAL = ("mirrors", "timeout")  # settings of a place, not of a run: no file says which address is asked
PLACES = {  # options that say where a recipe runs, not what it does
    "trainer": ("accelerator", "devices", "num_nodes", "strategy", "default_root_dir"),
    "data": ("data_dir", *LOCAL),
}


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


def options(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's options and their values, without its places.

    >>> options({"seed_everything": 0, "data": {"val_size": 5000, "data_dir": "data"}})
    {'seed_everything': 0, 'data.val_size': 5000}
    """
    sections = {section: values for section, values in config.items() if isinstance(values, dict)}
    return {name: value for name, value in config.items() if name not in sections} | {
        f"{section}.{name}": value
        for section, values in sections.items()
        for name, value in values.items()
        if name not in PLACES.get(section, ())
    }
