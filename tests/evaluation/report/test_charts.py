"""A chart's ticks, lines and bands share one scale."""

import pytest

from mnist_lit.evaluation.report.charts import Chart, Line


def test_values_lie_where_the_ticks_say() -> None:
    line = Line("a", "main", [(0, 0.5), (10, 1)], band=[(0, 0.4, 0.6), (10, 0.9, 1)])
    chart = Chart("t", "y", [line], x_label="x", x_range=(0, 10), y_range=(0, 1))
    assert {text: x for x, text in chart.x_ticks}["10"] == chart.x(10) == 380
    assert {text: y for y, text in chart.y_ticks}["1"] == chart.y(1) == 14
    assert chart.path([(0, 0)]) == "60,216"
    assert chart.outline(line) == chart.path([(0, 0.4), (10, 0.9), (10, 1), (0, 0.6)])


def test_an_axis_up_to_a_given_value_begins_at_a_tick_below_the_lowest() -> None:
    chart = Chart("t", "y", [Line("a", "main", [(0, 0.58), (10, 0.9)])], x_label="x", y_range=(0.58, 1))
    assert (chart.y_ticks[0], chart.y_ticks[-1]) == ((216, "0.5"), (14, "1"))


def test_equal_factors_are_equally_far_apart_on_a_logarithmic_axis() -> None:
    rates = Chart("t", "y", [Line("a", "main", [(0, 2.0), (1, 0.02)])], x_label="x", logarithmic=True)
    positions = {text: y for y, text in rates.y_ticks}
    assert positions["1"] - rates.y(2.0) == pytest.approx(rates.y(0.05) - rates.y(0.1), abs=0.2)


VALUES = (
    (0.25, 0.9),
    (0.99, 1.01),
    (0.002, 2.3),
    (0.06, 2.3),
    (1e-4, 1e-3),
    (1.2, 3),
    (2.01, 19.9),
    (0.09, 11),
    (0, 3),
)


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("values", VALUES)
def test_an_axis_has_three_ticks_or_more_the_first_at_the_lowest_value_or_just_below(
    values: tuple[float, float],
    logarithmic: bool,
) -> None:
    chart = Chart("t", "y", [Line("a", "main", [*enumerate(values)])], x_label="x", logarithmic=logarithmic)
    first, text = chart.y_ticks[0]
    assert (first, float(text) <= max(values[0], 1e-4 * logarithmic)) == (216, True)
    assert chart.y(values[0]) > 150
    assert 3 <= len(chart.y_ticks) <= 9
    assert len({text for _, text in chart.y_ticks}) == len(chart.y_ticks)
    assert all(14 <= y <= 216 for y, _ in chart.y_ticks)
