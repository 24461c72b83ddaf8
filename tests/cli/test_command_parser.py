"""A command's options are parsed, and wrong ones are one line."""

import pytest

from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.errors import InputError


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--modle", "x"], "unknown option --modle; did you mean --model?"),
        (["--data_dri", "x"], "unknown option --data_dri; did you mean --data_dir?"),
        (["--model"], "--model/--ckpt_path: expected a value, got none"),
        (["--size", "x"], "--size: expected a number, got x"),
        (["--all=3"], "--all: expected no value, got 3"),
    ],
)
def test_a_parser_raises_one_line(args: list[str], message: str) -> None:
    parser = CommandParser("predict", "Read digits.")
    parser.add_model_argument("the model")
    parser.add_data_dir_argument()
    parser.add_argument("--size", type=float)
    parser.add_argument("--all", action="store_true")
    assert parser.parse_args(["--ckpt_path", "a", "--data_dir", "b"]).model == "a"
    assert parser.parse_args(["--model", ""]).model == ""  # not the default
    assert parser.parse_args(["--data.data_dir", "b"]).data_dir == "b"  # its name in `fit`
    with pytest.raises(InputError) as caught:
        parser.parse_args(args)
    assert str(caught.value) == message


def test_options_of_fit_are_not_taken_for_misspelled_ones_of_the_command() -> None:
    parser = CommandParser("sweep", "Search.")
    for option in ("--config", "--seed", "--trials"):
        parser.add_argument(option)
    fit = ["--seeds", "2", "--print_config", "--seed_everything=1", "--figures", "false", "--model.seed", "--triale"]
    assert parser.parse_before_fit(["--seed", "3", *fit[:-1]])[1] == fit[:-1]
    with pytest.raises(InputError, match="unknown option --triale; did you mean --trials"):
        parser.parse_before_fit(fit)


@pytest.mark.parametrize("args", [["--all", "a", "--size", "1", "b"], ["a", "--all", "b"], ["--all", "--", "a", "b"]])
def test_files_and_options_may_be_in_any_order(args: list[str]) -> None:
    parser = CommandParser("predict", "Read digits.")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--size")
    assert (parser.parse_args(args).files, parser.parse_args(args).all) == (["a", "b"], True)


def test_help_wraps_prose_and_keeps_the_lines_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    prose, table = "many words " * 20, "a    1\nb    2"
    for parser in (CommandParser("runs", prose, table), CommandParser("runs", "List the runs.", prose)):
        assert max(map(len, parser.format_help().splitlines())) < 80
    assert CommandParser("runs", prose, table).format_help().endswith(f"\n\n{table}\n")
