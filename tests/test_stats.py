"""Intervals and tests agree with their definitions, and can say that they see no difference."""

import math
from itertools import product

import numpy as np
import pytest

from mnist_lit.stats import mcnemar, spread, welch, wilson_interval


def test_the_spread_is_students_interval() -> None:
    values = [99.31, 99.36, 99.40, 99.33, 99.38]
    found = spread(values)
    sd = math.sqrt(sum((v - 99.356) ** 2 for v in values) / 4)
    assert found.n == 5
    assert list(found[1:3]) == pytest.approx([99.356, sd])
    assert found.high - found.mean == pytest.approx(
        2.776445 * sd / math.sqrt(5)
    )  # t of 4 degrees of freedom, a table's
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_one_value_has_no_spread() -> None:
    assert spread([3.0])[:2] == (1, 3.0)
    assert all(math.isnan(value) for value in spread([3.0])[2:])


def test_the_mean_lies_in_its_interval_as_often_as_promised() -> None:
    draws = np.random.default_rng(0).normal(5, 2, size=(2000, 4))
    inside = sum(low <= 5 <= high for _, _, _, low, high in map(spread, draws.tolist()))
    assert 0.93 < inside / 2000 < 0.97


def test_welch_finds_nothing_as_often_as_promised_and_a_difference_where_there_is_one() -> None:
    generator = np.random.default_rng(1)
    alike = [welch(*generator.normal(0, 1, size=(2, 5)).tolist()).p for _ in range(1000)]
    assert 0.02 < np.mean([p < 0.05 for p in alike]) < 0.07
    apart = welch([1.0, 1.1, 0.9], [2.0, 2.1, 1.9])
    assert apart.p < 0.001
    assert apart.low < apart.value < apart.high
    assert apart.value == pytest.approx(1.0)


def test_groups_without_spread_differ_or_do_not() -> None:
    assert welch([1.0, 1.0], [1.0, 1.0]).p == 1
    assert welch([1.0, 1.0], [2.0, 2.0]).p == 0


@pytest.mark.parametrize(("only_first", "only_second"), list(product((0, 1, 5, 9), repeat=2)))
def test_mcnemars_p_is_the_sum_of_the_binomials_tails(only_first: int, only_second: int) -> None:
    n, least = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    found = mcnemar(only_first, only_second, 1000)
    assert found.p == pytest.approx(min(1.0, 2 * tail))
    assert found.value == pytest.approx((only_second - only_first) / 1000)
    assert found.low < found.value < found.high


def test_wilsons_interval_holds_bounds_that_a_normal_one_would_leave() -> None:
    low, high = wilson_interval(10_000, 10_000)
    assert high == pytest.approx(1)
    assert low == pytest.approx(1 / (1 + 1.959964**2 / 10_000))
