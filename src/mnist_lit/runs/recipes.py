"""The shipped recipes, found by name, and what is no part of a recipe. The standard library only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_lit.errors import InputError
from mnist_lit.system.arguments import did_you_mean

__all__ = [
    "NETWORK_SETTINGS",
    "find_recipe",
    "recipe_name",
    "recipe_names",
    "recipe_options",
    "recipes_dir",
    "without_removed_options",
]

NETWORK_SETTINGS = ("mirrors", "timeout")  # settings of a place, not of a run: no file says which address is asked
MACHINE_SETTINGS = {  # options that say where a recipe runs, not what it does
    "trainer": ("accelerator", "devices", "num_nodes", "strategy", "default_root_dir"),
    "data": ("data_dir", *NETWORK_SETTINGS),
}


REMOVED_OPTIONS = {"data": {"elastic": 0.0}}  # section → option → the default at which old files still load


def recipes_dir() -> Path:
    """Where the shipped recipes lie: inside the package in a wheel, beside `src` in a checkout."""
    installed = Path(__file__).parents[1] / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "configs"


def recipe_names() -> list[str]:
    """The shipped recipes' names."""
    return sorted(path.stem for path in recipes_dir().glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """The config at a path, or else the shipped recipe of that name. Raises InputError where there is neither."""
    try:
        path = next((path for path in (Path(name), recipes_dir() / f"{name}.yaml") if path.is_file()), None)
    except OSError:  # no file can have such a name
        path = None
    if path is None:
        raise InputError(
            f"no config at {name}{did_you_mean(Path(name).stem, recipe_names())} (recipes: {', '.join(recipe_names())})"
        )
    return path


def recipe_name(arg: str) -> str:
    """A shipped recipe's name, of its path; anything else as it is."""
    return {str(recipes_dir() / f"{name}.yaml"): name for name in recipe_names()}.get(arg, arg)


def recipe_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's options and their values, without its places.

    >>> recipe_options({"seed_everything": 0, "data": {"val_size": 5000, "data_dir": "data"}})
    {'seed_everything': 0, 'data.val_size': 5000}
    """
    sections = {section: values for section, values in config.items() if isinstance(values, dict)}
    return {name: value for name, value in config.items() if name not in sections} | {
        f"{section}.{name}": value
        for section, values in sections.items()
        for name, value in values.items()
        if name not in MACHINE_SETTINGS.get(section, ())
    }


def without_removed_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without options that no longer exist. Raises InputError where one is not at its old default.

    >>> without_removed_options({"data": {"elastic": 0.0, "degrees": 10}})
    {'data': {'degrees': 10}}
    """
    kept = dict(config)
    for section, removed in REMOVED_OPTIONS.items():
        values = config.get(section)
        if isinstance(values, dict):
            for name in removed.keys() & values.keys():
                if values[name] != removed[name]:
                    raise InputError(f"{section}.{name}: expected {removed[name]}, got {values[name]}; it was removed")
            kept[section] = {name: value for name, value in values.items() if name not in removed}
    return kept
