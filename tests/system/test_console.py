"""Columns align, and no line is wrapped, padded or interpreted as markup."""

import pytest

from mnist_lit.system.console import print_table, say


def test_columns_align_left_or_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["run", "epochs"], [["version_0", "3"], ["version_10", "12", "more"]], right=[1])
    assert capsys.readouterr().out == ("run         epochs\nversion_0        3\nversion_10      12  more\n")


def test_long_lines_and_brackets_are_printed_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    cell = "[red]" + "word " * 100 + "end"
    print_table([], [[cell]])
    assert capsys.readouterr().out == f"{cell}\n"


def test_names_from_outside_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("dd\x1b[31m/\x9b2J\udcff\r.png\tof", "two\nlines ×", end="\n\n", flush=True)
    assert capsys.readouterr().out == "dd?[31m/?2J??.png\tof two\nlines ×\n\n"
