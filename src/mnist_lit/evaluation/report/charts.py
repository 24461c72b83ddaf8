"""Line charts as geometry: where ticks, lines, dots and bands lie in a box of 400 × 260. The page draws them.

The standard library only; knows nothing of runs or of HTML.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

__all__ = ["PLOT", "Chart", "Line", "Plot", "Point", "percent", "plain"]

TICKS = 5  # about so many an axis
LEAST = 1e-4  # what is smaller is drawn as that on a logarithmic axis, which has no place for 0

Point = tuple[float, float]


class Plot(NamedTuple):
    """The plot's edges within the box; ticks and labels stand outside."""

    left: int = 60
    right: int = 380
    top: int = 14
    bottom: int = 216


PLOT = Plot()


def plain(value: float) -> str:
    """A number as it is read.

    >>> plain(2000), plain(0.25), plain(-30)
    ('2,000', '0.25', '−30')
    """
    return f"{value:,g}".replace("-", "−") if abs(value) < 1e6 else f"{value:g}"


def percent(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.6g} %"


@dataclass(frozen=True)
class Line:
    """One curve: its name, its look (a class of the page's style), its points; `band` goes around it.

    Dots of different radii stand for themselves, without a line between them.
    """

    name: str
    look: str
    points: Sequence[Point]
    dots: bool = True
    band: Sequence[tuple[float, float, float]] = ()  # x, low, high
    radii: Sequence[float] = ()  # of the dots


@dataclass(frozen=True)
class Chart:
    """Lines in a plot with two axes. Without a range an axis goes from its least value to its greatest."""

    title: str
    y_label: str
    lines: Sequence[Line]
    x_label: str
    x_range: Point | None = None
    y_range: Point | None = None
    x_text: Callable[[float], str] = plain
    y_text: Callable[[float], str] = plain
    logarithmic: bool = False  # the y axis
    level: float | None = None  # a dashed line across
    diagonal: bool = False  # a dashed line from corner to corner

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """Places along the x axis, with what stands there."""
        return [(self.x(value), self.x_text(value)) for value in _ticks(*self._x)]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """Places along the y axis, with what stands there."""
        if not self.logarithmic:
            return [(self.y(value), self.y_text(value)) for value in _ticks(*self._y)]
        low, high = self._y
        steps = (1, 2, 5) if high - low < 2 else (1,)
        values = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
        return [(self.y(value), self.y_text(value)) for value in values if low <= math.log10(value) <= high]

    def x(self, value: float) -> float:
        """Where a value is drawn."""
        low, high = self._x
        return round(PLOT.left + (PLOT.right - PLOT.left) * (value - low) / (high - low), 1)

    def y(self, value: float) -> float:
        """Where a value is drawn; what is outside of the plot, at its edge."""
        low, high = self._y
        place = (self._scaled(value) - low) / (high - low)
        return round(PLOT.bottom - (PLOT.bottom - PLOT.top) * min(max(place, 0), 1), 1)

    def path(self, points: Sequence[Point]) -> str:
        """The points as an SVG polyline has them."""
        return " ".join(f"{self.x(x):g},{self.y(y):g}" for x, y in points)

    def outline(self, line: Line) -> str:
        """A line's band as an SVG polygon has it."""
        low, high = [(x, low) for x, low, _ in line.band], [(x, high) for x, _, high in line.band]
        return self.path([*low, *reversed(high)])

    @cached_property
    def _x(self) -> Point:
        return self.x_range or _range([x for line in self.lines for x, _ in line.points])

    @cached_property
    def _y(self) -> Point:
        return self.y_range or _range([self._scaled(y) for line in self.lines for _, y in line.points])

    def _scaled(self, y: float) -> float:
        return math.log10(max(y, LEAST)) if self.logarithmic else y


def _range(values: Sequence[float]) -> Point:
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, about `TICKS` of them.

    >>> _ticks(0, 469), _ticks(0.981, 0.994)
    ([0.0, 100.0, 200.0, 300.0, 400.0], [0.982, 0.984, 0.986, 0.988, 0.99, 0.992, 0.994])
    """
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((power * factor for factor in (1, 2, 5, 10)), key=lambda size: abs(math.log(size / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
