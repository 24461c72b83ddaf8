"""Intervals and tests agree with their definitions and with published tables."""

import math
from itertools import product

import numpy as np
import pytest

from mnist_lit.evaluation.statistics import mcnemar, spread, welch, wilson_interval


def test_the_interval_of_the_mean_is_students() -> None:
    values = [99.31, 99.36, 99.40, 99.33, 99.38]
    found = spread(values)
    sd = math.sqrt(sum((v - 99.356) ** 2 for v in values) / 4)
    assert found.n == 5
    assert list(found[1:3]) == pytest.approx([99.356, sd])
    t = 2.776445  # from a table, for 4 degrees of freedom
    assert found.high - found.mean == pytest.approx(t * sd / math.sqrt(5))
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_one_value_has_no_spread() -> None:
    assert spread([3.0])[:2] == (1, 3.0)
    assert all(math.isnan(value) for value in spread([3.0])[2:])


def test_95_percent_of_the_intervals_contain_the_mean() -> None:
    draws = np.random.default_rng(0).normal(5, 2, size=(2000, 4))
    inside = sum(low <= 5 <= high for _, _, _, low, high in map(spread, draws.tolist()))
    assert 0.93 < inside / 2000 < 0.97


def test_welch_errs_in_5_percent_of_equal_groups_and_finds_a_difference() -> None:
    generator = np.random.default_rng(1)
    alike = [welch(*generator.normal(0, 1, size=(2, 5)).tolist()).p for _ in range(1000)]
    assert 0.02 < np.mean([p < 0.05 for p in alike]) < 0.07
    apart = welch([1.0, 1.1, 0.9], [2.0, 2.1, 1.9])
    assert apart.p < 0.001
    assert apart.low < apart.value < apart.high
    assert apart.value == pytest.approx(1.0)


def test_groups_without_spread_have_no_p_value_unless_equal() -> None:
    assert welch([1.0, 1.0], [1.0, 1.0]).p == 1
    one = welch([0.9948] * 3, [0.9948, 0.9945])  # scipy warns
    assert (one.low, one.high, one.p) == pytest.approx((-0.002056, 0.001756, 0.5), abs=1e-6)
    apart = welch([0.9934, 0.9934], [0.9935, 0.9935])
    assert math.isnan(apart.p)
    assert apart.value == pytest.approx(0.0001)


@pytest.mark.parametrize(("only_first", "only_second"), list(product((0, 1, 5, 9), repeat=2)))
def test_mcnemars_p_is_the_sum_of_the_binomial_tails(only_first: int, only_second: int) -> None:
    n, least = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    found = mcnemar(only_first, only_second, 1000)
    assert found.p == pytest.approx(min(1.0, 2 * tail))
    assert found.value == pytest.approx((only_second - only_first) / 1000)
    assert found.low <= found.value <= found.high


def test_mcnemars_interval_ends_where_differences_do() -> None:
    assert mcnemar(0, 10, 10).high == 1
    assert mcnemar(10, 0, 10).low == -1


@pytest.mark.parametrize("rates", [(0.002, 0.012), (0.01, 0.03), (0.0, 0.0)])
@pytest.mark.parametrize("total", [360, 10_000])
def test_mcnemars_interval_covers_the_true_difference(rates: tuple[float, float], total: int) -> None:
    draws = np.random.default_rng(0).multinomial(total, [*rates, 1 - sum(rates)], size=2000)
    found = [mcnemar(int(first), int(second), total) for first, second, _ in draws]
    covered = np.mean([one.low <= rates[1] - rates[0] <= one.high for one in found])
    assert covered > 0.93
    assert sum(rates) == 0 or covered < 0.99  # not because it is too wide


def test_welchs_interval_is_students_with_welchs_degrees_of_freedom() -> None:
    first, second = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9], [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2]
    found = welch(first, second)
    parts = [np.var(values, ddof=1) / len(values) for values in (first, second)]
    freedom = sum(parts) ** 2 / sum(part**2 / (n - 1) for part, n in zip(parts, (6, 10), strict=True))
    assert 6.5 < freedom < 7.5
    assert (found.high - found.low) / 2 == pytest.approx(2.3646 * sum(parts) ** 0.5, rel=0.02)  # t from a table, for 7


def test_wilsons_interval_stays_within_0_and_1() -> None:
    low, high = wilson_interval(10_000, 10_000)
    assert high == pytest.approx(1)
    assert low == pytest.approx(1 / (1 + 1.959964**2 / 10_000))
    assert all(wilson_interval(total, total)[1] <= 1 for total in range(1, 100))
    assert all(wilson_interval(0, total)[0] >= 0 for total in range(1, 100))


@pytest.mark.parametrize(("right", "total"), [(1, 2), (9934, 10_000), (0, 30), (17, 30)])
def test_wilsons_bounds_are_where_the_score_test_changes_its_mind(right: int, total: int) -> None:
    for bound in wilson_interval(right, total):  # |fraction - bound| = z·√(bound·(1 - bound)/n), Wilson's definition
        gap = 1.959964 * math.sqrt(max(bound * (1 - bound), 0) / total)
        assert abs(right / total - bound) == pytest.approx(gap, abs=1e-9)
    low, high = wilson_interval(right, total)
    assert low <= right / total <= high


def test_a_spread_is_printed_in_percent_and_within_0_and_100() -> None:
    assert str(spread([0.9934])) == "99.34 %  (n = 1)"
    assert str(spread([0.98, 1.0])) == "99.0 ± 1.4 %  (n = 2; 95 % interval of the mean 86.3 – 100.0 %)"
    assert str(spread([0.9951] * 5)) == "99.510 %  (n = 5, all equal)"  # NumPy's deviation is not quite 0
    assert str(spread([0.0, 0.02])) == "1.0 ± 1.4 %  (n = 2; 95 % interval of the mean 0.0 – 13.7 %)"
