"""Options are found among arguments as a fit would find them."""

from pathlib import Path

import pytest

from mnist_lit.system.arguments import fit_option, has_option, pop_option, split_positionals


def test_an_option_is_found_in_both_spellings_but_not_as_a_value_or_a_prefix() -> None:
    assert has_option(["--a", "1", "--seeds", "3"], "--seeds")
    assert has_option(["--seeds=3"], "--seeds")
    assert not has_option(["--seeds_at_once", "2", "seeds"], "--seeds")


def test_an_option_is_removed_in_both_spellings() -> None:
    assert pop_option(["--a", "1", "--seeds", "3", "--b"], "--seeds") == ("3", ["--a", "1", "--b"])
    assert pop_option(["--seeds=3", "--seeds=4"], "--seeds") == ("4", [])
    assert pop_option(["--a"], "--seeds") == ("", ["--a"])


@pytest.mark.parametrize(
    ("args", "positionals", "options"),
    [
        ("run --a 1", ["run"], ["--a", "1"]),
        ("--a 1 run", ["run"], ["--a", "1"]),
        ("--a=1 run --b 2", ["run"], ["--a=1", "--b", "2"]),
        ("one --a 1 two", ["one", "two"], ["--a", "1"]),
        ("--a x=y run", ["run"], ["--a", "x=y"]),
        ("--help all", [], ["--help", "all"]),
        ("", [], []),
    ],
)
def test_an_argument_that_is_no_options_value_is_positional(
    args: str, positionals: list[str], options: list[str]
) -> None:
    assert split_positionals(args.split()) == (positionals, options)


def test_the_logs_folder_is_that_of_the_option_or_the_config() -> None:
    Path("mine.yaml").write_text("trainer: {default_root_dir: there}")
    assert fit_option(["--config", "mine.yaml"], "trainer.default_root_dir") == "there"
    assert (
        fit_option(["--config", "mine.yaml", "--trainer.default_root_dir=here"], "trainer.default_root_dir") == "here"
    )
    assert fit_option(["--config", "gone.yaml"], "trainer.default_root_dir") == ""


def test_a_trainer_option_may_be_in_a_section() -> None:
    Path("trainer.yaml").write_text("default_root_dir: there")
    section = ("--trainer", "{default_root_dir: here, max_epochs: 1}")
    for args in (section, ("=".join(section),), (*section, "--trainer.max_epochs", "2"), (*section, "--trainer={}")):
        assert fit_option(args, "trainer.default_root_dir") == "here"
    assert fit_option([*section, "--trainer", "trainer.yaml"], "trainer.default_root_dir") == "there"
    assert fit_option([*section, "--trainer", "{default_root_dir: null}"], "trainer.default_root_dir") == ""
    for wrong in ("5", "[devices]", "gone.yaml", "{", ""):
        assert fit_option([*section, "--trainer", wrong], "trainer.default_root_dir") == "here"


def test_the_last_config_wins_as_in_a_fit() -> None:
    Path("one.yaml").write_text("trainer: {default_root_dir: one, accelerator: cpu}")
    Path("two.yaml").write_text("trainer: {default_root_dir: two, accelerator: null}")
    configs = ["--config", "one.yaml", "--config", "two.yaml"]
    assert fit_option(configs, "trainer.default_root_dir") == "two"
    assert fit_option([*configs, "--trainer.default_root_dir=here"], "trainer.default_root_dir") == "here"
    for wrong in ("5", "[devices]", "{trainer: 5}", "{trainer: [devices]}"):
        Path("wrong.yaml").write_text(wrong)
        assert fit_option([*configs, "--config", "wrong.yaml"], "trainer.default_root_dir") == "two"
    assert fit_option(configs[:2], "trainer.accelerator") == "cpu"
    assert fit_option(configs, "trainer.accelerator") == ""
    assert fit_option([*configs, "--trainer.default_root_dir", "null"], "trainer.default_root_dir") == ""


def test_an_option_outside_any_section_is_found_in_a_config() -> None:
    Path("mine.yaml").write_text("resume: auto\nfigures: false\ntrainer: {figures: true}")
    assert fit_option(["--config", "mine.yaml"], "resume") == "auto"
    assert fit_option(["--config", "mine.yaml", "--resume", "null"], "resume") == ""
    assert fit_option(["--config", "mine.yaml"], "figures") == ""
