"""Recipes are found by name or path, and machine settings are not part of them."""

from pathlib import Path

import pytest

from mnist_lit.errors import InputError
from mnist_lit.runs.recipes import (
    MACHINE_SETTINGS,
    NETWORK_SETTINGS,
    PRIVATE_SETTINGS,
    find_recipe,
    recipe_name,
    recipe_names,
    recipe_options,
    recipes_dir,
)


def test_a_recipe_is_found_by_name_or_path() -> None:
    path = find_recipe("quickstart")
    assert path == recipes_dir() / "quickstart.yaml"
    assert recipe_name(str(path)) == "quickstart"
    assert recipe_name("other.yaml") == "other.yaml"
    Path("quickstart").touch()
    assert find_recipe("quickstart") == Path("quickstart")


@pytest.mark.parametrize("name", ["quickstrat", "x" * 5000])
def test_an_unknown_recipe_is_refused_with_all_names(name: str) -> None:
    with pytest.raises(InputError, match=f"no config at {name}.*recipes: {', '.join(recipe_names())}"):
        find_recipe(name)


def test_machine_settings_are_not_options_of_a_recipe() -> None:
    trainer = {"max_epochs": 3, "accelerator": "gpu", "devices": 2, "num_nodes": 1, "strategy": "ddp"}
    data = {"val_size": 1, "data_dir": "/data", "mirrors": [], "timeout": 1}
    config = {"seed_everything": 0, "trainer": {**trainer, "default_root_dir": "/runs"}, "data": data}
    assert recipe_options(config) == {"seed_everything": 0, "trainer.max_epochs": 3, "data.val_size": 1}


def test_private_settings_are_the_paths_and_the_network() -> None:
    assert {*PRIVATE_SETTINGS} == {"data_dir", "default_root_dir", "dirpath", "mirrors", "timeout"}
    assert {*NETWORK_SETTINGS} == {"mirrors", "timeout"}
    assert {*MACHINE_SETTINGS} == {"hardware", "paths", "network"}
