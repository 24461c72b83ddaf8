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


def test_equal_factors_are_equally_far_apart_on_a_logarithmic_axis() -> None:
    rates = Chart("t", "y", [Line("a", "main", [(0, 2.0), (1, 0.02)])], x_label="x", logarithmic=True)
    positions = {text: y for y, text in rates.y_ticks}
    assert positions["1"] - rates.y(2.0) == pytest.approx(rates.y(0.05) - rates.y(0.1), abs=0.2)


@pytest.mark.parametrize("values", [(0.25, 0.9), (0.99, 1.01), (0.002, 2.3), (0.06, 2.3), (1e-4, 1e-3)])
def test_a_logarithmic_axis_has_three_ticks_or_more(values: tuple[float, float]) -> None:
    chart = Chart("t", "y", [Line("a", "main", [*enumerate(values)])], x_label="x", logarithmic=True)
    assert 3 <= len(chart.y_ticks) <= 9
    assert len({text for _, text in chart.y_ticks}) == len(chart.y_ticks)
    assert all(14 <= y <= 216 for y, _ in chart.y_ticks)
