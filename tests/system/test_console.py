"""Columns align, and no line is wrapped, padded or interpreted as markup."""

import sys
import unicodedata

import pytest

from mnist_lit.system.console import print_table, printable, say

BIDIRECTIONAL = ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")


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


def test_unusual_names_can_be_copied_and_only_controls_are_replaced() -> None:
    for name in ("数字\u3000練習", "a\u00a0b", "👩\u200d🔬", "soft\u00adhyphen", "\ufeff", "\ue000"):
        assert printable(name) == name
    controls = {chr(code) for code in range(sys.maxunicode + 1) if printable(chr(code)) == "?"} - {"?"}
    for control in controls - {"\ufffe", "\uffff"}:
        is_embedding = unicodedata.bidirectional(control) in BIDIRECTIONAL
        assert is_embedding or unicodedata.category(control) in ("Cc", "Cs", "Zl", "Zp"), ascii(control)
    assert len(controls) == 65 + 2048 + 2 + len(BIDIRECTIONAL) + 2
