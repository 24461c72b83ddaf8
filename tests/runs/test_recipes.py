"""Recipes are found by name or path, and machine settings are not part of them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mnist_lit.errors import InputError
from mnist_lit.experiments.sweep import RESERVED
from mnist_lit.runs.recipes import (
    DOWNLOAD_SETTINGS,
    HARDWARE_SETTINGS,
    INVOCATION_OPTIONS,
    PRIVATE_SETTINGS,
    command_line,
    find_recipe,
    recipe_name,
    recipe_names,
    recipe_options,
    recipes_dir,
)


@pytest.mark.parametrize("char", ["\n", "\r", "\x85", "\u2028", "\0", "\udcff"])
def test_a_command_that_no_comment_can_hold_is_refused(char: str) -> None:
    for args in (["--data.data_dir", f"a{char}b"], [f"--data.data_dir=a{char}b"]):
        with pytest.raises(
            InputError, match=r"^--data\.data_dir: expected no line breaks .*; write it in one line, or in"
        ):
            command_line(["fit", *args])
    assert yaml.safe_load("# " + command_line(["fit", "ä\t🙂"]) + "\na: 1") == {"a": 1}


def test_a_list_on_several_lines_is_recorded_on_one() -> None:
    assert command_line(["fit", "--a", "[{b: c,\n d: e}]"]) == "mnist-lit fit --a '[{b: c,  d: e}]'"
    assert command_line(["fit", "--a=[b,\r\nc]\n"]) == "mnist-lit fit '--a=[b, c]'"
    for other in ("b: c\nd: e", "[b, # c\n d]", "[b\n\nc]", "[b,\n@]", "b\nc"):
        with pytest.raises(InputError, match=r"^--a: expected no line breaks"):
            command_line(["fit", "--a", other])


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


def test_a_folder_is_refused_as_such() -> None:
    Path("docs").mkdir()
    with pytest.raises(InputError, match=r"docs is a folder, not a config \(recipes: best,"):
        find_recipe("docs")


def test_machine_settings_are_not_options_of_a_recipe() -> None:
    trainer = {"max_epochs": 3, "accelerator": "gpu", "devices": 2, "num_nodes": 1, "strategy": "ddp"}
    data = {"val_size": 1, "data_dir": "/data", "mirrors": [], "timeout": 1}
    config = {"seed_everything": 0, "trainer": {**trainer, "default_root_dir": "/runs"}, "data": data}
    assert recipe_options(config) == {"seed_everything": 0, "trainer.max_epochs": 3, "data.val_size": 1}


@pytest.mark.parametrize(("section", "path"), [("logger", "save_dir"), ("callbacks", "dirpath")])
def test_neither_are_the_paths_of_loggers_and_callbacks(section: str, path: str) -> None:
    def recipe(**init_args: str) -> dict[str, Any]:
        parts = [{"class_path": "Part", "init_args": init_args}]
        return recipe_options({"trainer": {section: parts if section == "callbacks" else parts[0]}})

    assert recipe(**{path: "/here"}) == recipe(**{path: "/there"})
    assert recipe(monitor="val/acc") != recipe(monitor="val/loss")


def test_private_settings_are_the_paths_and_the_downloads() -> None:
    assert {*PRIVATE_SETTINGS} == {"data_dir", "default_root_dir", "dirpath", "save_dir", "mirrors", "timeout"}
    assert {*DOWNLOAD_SETTINGS} == {"mirrors", "timeout"}
    assert {*HARDWARE_SETTINGS} == {"accelerator", "devices", "num_nodes", "strategy"}


def test_every_other_setting_is_an_option_of_a_recipe() -> None:
    config = yaml.safe_load(find_recipe("quickstart").read_text(encoding="utf-8"))
    config["data"] |= {"batch_size": 64, "data_dir": "/data"}
    options = recipe_options(config)
    assert options["data.batch_size"] == 64
    assert "data.data_dir" not in options
    machine = {"accelerator", "devices", "num_nodes", "strategy", "default_root_dir", "data_dir", "mirrors", "timeout"}
    expected = {name: value for name, value in config.items() if not isinstance(value, dict)}
    for section in ("model", "data", "trainer"):
        expected |= {f"{section}.{name}": value for name, value in config[section].items() if name not in machine}
    assert options == expected


def test_the_options_of_one_invocation_are_kept_out_of_recipes_and_sweeps(tiny_run: Path) -> None:
    config = yaml.safe_load(tiny_run.joinpath("config.yaml").read_text(encoding="utf-8"))
    assert not {*INVOCATION_OPTIONS} & {*config}
    assert {*INVOCATION_OPTIONS} < {*RESERVED}
