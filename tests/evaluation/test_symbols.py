"""Symbols are drawn in every shape and place that their tables name, and never a digit."""

import numpy as np
import pytest

from mnist_lit.evaluation import symbols
from mnist_lit.evaluation.symbols import PRINTED, SYMBOLS, printed_symbol, symbol_path


def test_every_symbol_fills_the_longer_side_of_the_unit_square(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for symbol in SYMBOLS:
        monkeypatch.setattr(symbols, "SYMBOLS", (symbol,))
        path = symbol_path(rng)
        assert path.min() == 0
        assert path.max() == 1
        assert path.shape[1] % symbols.STROKE_POINTS == 0


def test_strokes_that_meet_still_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols, "SYMBOLS", ("00 09,09 79",))
    monkeypatch.setattr(symbols, "SERIF_FRACTION", 0)
    path = symbol_path(np.random.default_rng(0))
    np.testing.assert_allclose(path[:, symbols.STROKE_POINTS - 1], path[:, symbols.STROKE_POINTS])
    assert path[0, 0] < path[0, symbols.STROKE_POINTS]  # y points down


def test_no_symbol_is_listed_twice_and_none_looks_like_a_digit() -> None:
    assert len(set(SYMBOLS)) == len(SYMBOLS)
    assert len(set(PRINTED)) == len(PRINTED)
    assert not set(PRINTED) & set("0123456789OoDQIiJjl|/\\ZzySs$bB>]gq")


def test_the_same_generator_state_gives_the_same_printed_symbol() -> None:
    one, other, third = (printed_symbol(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, third)
    assert one.max() == 255
    assert not one[[0, -1]].any()  # nothing is cut off
