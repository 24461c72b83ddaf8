"""Line charts as geometry: where ticks, lines, dots and bands lie in a box of 400 × 260. The page draws them as
SVG, and follows the reader's light or dark theme without a script, which a plotting library's output cannot."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

TICKS = 5  # per axis, approximately
STEPS = (1, 2, 5)  # by which powers of ten are multiplied
FEWEST_TICKS = {(1,): 4, STEPS: 3}  # on a logarithmic axis, at least, for its ticks to be at these multiples
LEFT, RIGHT, TOP, BOTTOM = 60, 380, 14, 216  # the plot's edges within the box; ticks and labels stand outside
LOG_FLOOR = 1e-4  # smaller values are drawn as this on a logarithmic axis, which cannot show 0

Point = tuple[float, float]


def plain(value: float) -> str:
    """A number for a tick or a tooltip.

    >>> plain(2000), plain(0.25), plain(-30)
    ('2,000', '0.25', '−30')
    """
    return f"{value:,g}".replace("-", "−") if abs(value) < 1e6 else f"{value:g}"


def tick_percent(value: float) -> str:
    """A fraction in percent, as a tick.

    >>> tick_percent(0.975)
    '97.5 %'
    """
    return f"{100 * value:.6g} %"


@dataclass(frozen=True)
class Line:
    """A curve: its name, its CSS class and its points. With `radii` it is a scatter plot, without a connecting line."""

    name: str
    css_class: str
    points: Sequence[Point]
    text: Callable[[float], str] = plain  # of a y value, for tooltips
    dots: bool = True  # whether dots are visible; tooltips work without
    key: str = ""  # of the points in the `--json` object, if the legend shows the last one
    style: str = ""  # the format of that value, see `page.NUMBER_FORMATS`
    images: int | None = None  # number of images that a fraction was measured on
    band: Sequence[tuple[float, float, float]] = ()  # x, low, high
    radii: Sequence[float] = ()  # of the dots


@dataclass(frozen=True)
class Chart:
    """Lines in a plot with two axes. An axis without a range fits its data; the y axis begins at a tick below it."""

    title: str
    y_label: str
    lines: Sequence[Line]
    x_label: str
    x_range: Point | None = None
    y_range: Point | None = None
    x_text: Callable[[float], str] = plain
    x_word: str = ""  # before an x value in tooltips
    y_text: Callable[[float], str] = plain
    logarithmic: bool = False  # the y axis
    level: float | None = None  # y of a dashed horizontal line
    diagonal: bool = False  # a dashed line from corner to corner

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """Position and text of each tick on the x axis."""
        return [(self.x(value), self.x_text(value)) for value in _ticks(*self._x_limits)]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """Position and text of each tick on the y axis."""
        return [(self.y(value), self.y_text(value)) for value in self._y_axis[1]]

    def x(self, value: float) -> float:
        """The horizontal position of a value."""
        low, high = self._x_limits
        return round(LEFT + (RIGHT - LEFT) * (value - low) / (high - low), 1)

    def y(self, value: float) -> float:
        """The vertical position of a value, at the plot's edge if it lies outside."""
        low, high = self._y_axis[0]
        fraction = (self._scaled(value) - low) / (high - low)
        return round(BOTTOM - (BOTTOM - TOP) * min(max(fraction, 0), 1), 1)

    def path(self, points: Sequence[Point]) -> str:
        """The `points` attribute of an SVG polyline."""
        return " ".join(f"{self.x(x):g},{self.y(y):g}" for x, y in points)

    def outline(self, line: Line) -> str:
        """The `points` attribute of an SVG polygon around a line's band."""
        return self.path([(x, low) for x, low, _ in line.band] + [(x, high) for x, _, high in reversed(line.band)])

    @cached_property
    def _x_limits(self) -> Point:
        return self.x_range or _fit([x for line in self.lines for x, _ in line.points])

    @cached_property
    def _y_axis(self) -> tuple[Point, list[float]]:
        """The limits, as logarithms on a logarithmic axis, and the ticks."""
        values = {self._scaled(y) for line in self.lines for _, y in line.points}
        low, high = self.y_range or _fit([*values])
        if not self.y_range and len(values) > 1:
            low = min(values)
        ticks = _log_ticks(low, high) if self.logarithmic else _ticks(low, high, from_below=True)
        return (self._scaled(ticks[0]), high), ticks

    def _scaled(self, y: float) -> float:
        return math.log10(max(y, LOG_FLOOR)) if self.logarithmic else y


def _fit(values: Sequence[float]) -> Point:
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float, *, from_below: bool = False) -> list[float]:
    """Round numbers from low to high, about `TICKS` of them: multiples of 1, 2 or 5 times a power of ten. from_below:
    the first is at low or below it, not above.

    >>> _ticks(0, 469), _ticks(0.981, 0.99), _ticks(0.981, 0.99, from_below=True)
    ([0.0, 100.0, 200.0, 300.0, 400.0], [0.982, 0.984, 0.986, 0.988, 0.99], [0.98, 0.982, 0.984, 0.986, 0.988, 0.99])
    """
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((power * factor for factor in (1, 2, 5, 10)), key=lambda size: abs(math.log(size / rough)))
    first = math.floor(low / step + 1e-9) if from_below else math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers to 10^high, the first of them 10^low or below: powers of ten, also twice and five times these, or
    else evenly spaced ones.

    >>> _log_ticks(-3, 0.3), _log_ticks(-1.1, 0.4), _log_ticks(-0.65, -0.05)
    ([0.001, 0.01, 0.1, 1.0], [0.05, 0.1, 0.2, 0.5, 1.0, 2.0], [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    """
    decade = math.floor(low)
    below = max(step * 10.0**decade for step in STEPS if math.log10(step) + decade <= low)
    for steps, fewest in FEWEST_TICKS.items():
        powers = range(decade, math.ceil(high) + 1)
        inside = {step * 10.0**power for power in powers for step in steps if low <= math.log10(step) + power <= high}
        if len(inside | {below}) >= fewest:
            return sorted(inside | {below})
    return _ticks(10**low, 10**high, from_below=True)
