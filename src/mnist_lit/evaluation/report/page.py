"""The page: the report's numbers laid out by `page.html`, with charts and images drawn in. Computes no scores. Jinja
escapes all text, charts included. Each number carries its key in the `--json` object as `data-key`."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from mnist_lit.evaluation.figures import png_url, tiles
from mnist_lit.evaluation.report.activations import LayerActivations
from mnist_lit.evaluation.report.charts import BOTTOM, LEFT, RIGHT, TOP, Chart, Line, Point, percent
from mnist_lit.evaluation.report.scores import MISTAKES, PAIRS, SUSPECT

Images = NDArray[np.uint8]
FORMATS: dict[str, Callable[[Any], str]] = {
    "count": lambda value: f"{value:,}",
    "index": str,
    "percent": lambda value: f"{100 * value:.2f} %",
    "percent1": lambda value: f"{100 * value:.1f} %",
    "points": lambda value: f"{100 * value:.3f}",
    "decimal": lambda value: f"{value:.4f}".replace("-0.0000", "0.0000"),
    "amount": lambda value: f"{value:g}".replace("-", "−"),
}
MAX_DEPTH = 0.55  # the deepest color of a mistake, on which dark text stays readable
SHARES: dict[str, Any] = {"y_range": (0, 1), "y_text": percent}


def render_page(report: Mapping[str, Any], images: Images, filters: Images, layers: Sequence[LayerActivations]) -> str:
    """The report, see `build_report`, as one HTML file. images: the test images, uint8 (N, 28, 28); filters, layers:
    see `first_filters` and `layer_activations`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.loader = FileSystemLoader(Path(__file__).parent)
    environment.globals.update(images_shown=MISTAKES, pairs=PAIRS, suspect=SUSPECT)
    url = partial(png_url, optimize=True)

    def data(key: str, text: Callable[[Any], str], css_class: str) -> Markup:
        value: Any = report
        for part in key.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        shown = ("", "–") if value is None else (value, text(value))
        return Markup('<data class="{}" data-key="{}" value="{}">{}</data>').format(css_class, key, *shown)

    return environment.get_template("page.html").render(
        report,
        number=lambda key, style="count": data(key, FORMATS[style], "number"),
        class_name=lambda key: data(key, report["classes"].__getitem__, "name"),
        picture=lambda index: url(images[index]),
        depths=_color_depths(report["test"]["confusion"]),
        charts=_charts(report),
        plot={"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
        filters=url(tiles(filters, columns=8)) if len(filters) else "",
        layers=[(layer, [url(channel) for channel in layer.maps]) for layer in layers],
        filter_count=len(filters),
    )


def _color_depths(confusion: list[list[int]] | None) -> list[list[float]]:
    """The color depth of each cell: its share of its row; for mistakes the root of it, relative to the largest."""
    counts = np.array(confusion or [[0]])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    correct = np.eye(len(counts), dtype=bool)
    worst = max(float(shares[~correct].max(initial=0)), 1e-12)
    depths = np.where(correct, shares, MAX_DEPTH * (shares / worst) ** 0.5)
    return [[round(value, 3) for value in row] for row in depths.tolist()]


def _charts(report: Mapping[str, Any]) -> dict[str, Any]:
    curve, clean = report["test"]["coverage"]["curve"], report["robustness"]["accuracy"]
    axes: dict[str, Any] = {"x_label": "share of the images that are answered", "x_text": percent, "y_text": percent}
    answered = [Line("accuracy", "main", curve, dots=False)]
    robustness = []
    for name, change in report["robustness"]["changes"].items():
        points = [(point["amount"], point["accuracy"]) for point in change["points"]]
        band = [(point["amount"], point["low"], point["high"]) for point in change["points"]]
        line = Line("accuracy", "main", points, band=band)
        robustness.append(Chart(name.capitalize(), "accuracy", [line], x_label=change["unit"], level=clean, **SHARES))
    return {
        **_training_charts(report["curves"]),
        "reliability": _reliability_chart(report["test"]["calibration"]),
        "coverage": Chart("Accuracy", "of the answered images", answered, y_range=_near_one(curve), **axes),
        "robustness": robustness,
    }


def _training_charts(curves: Mapping[str, Sequence[Point]]) -> dict[str, Chart]:
    """Loss and learning rate over the steps, and the accuracy if it was measured more than once."""
    last = max((points[-1][0] for points in curves.values() if points), default=0)
    if not last:
        return {}
    axis: dict[str, Any] = {"x_label": "optimizer steps", "x_range": (0, last)}
    loss = [
        Line("training, step by step", "faint", curves["train/loss_step"], dots=False),
        Line("training", "quiet", curves["train/loss"]),
        Line("validation", "main", curves["val/loss"]),
    ]
    accuracy = [Line("training", "quiet", curves["train/acc"]), Line("validation", "main", curves["val/acc"])]
    charts = {"loss": Chart("Loss", "nats, logarithmic", loss, logarithmic=True, **axis)}
    charts["rate"] = Chart("Learning rate", "", [Line("learning rate", "main", curves["lr"], dots=False)], **axis)
    scores = [point for line in accuracy for point in line.points]
    if len(scores) > 1:
        charts["accuracy"] = Chart("Accuracy", "", accuracy, y_range=_near_one(scores), y_text=percent, **axis)
    return charts


def _near_one(points: Sequence[Point]) -> Point:
    """The range of the y axis for accuracies near 1, where it ends."""
    low = min(accuracy for _, accuracy in points)
    return low - 0.05 * (1 - low) - 1e-3, 1


def _reliability_chart(calibration: Mapping[str, Any]) -> Chart:
    lines = []
    for when, name, look in (("before", "as trained", "quiet"), ("after", "calibrated", "main")):
        if calibration[when]:
            bins = [one for one in calibration[when]["bins"] if one["count"]]
            points = [(one["confidence"], one["accuracy"]) for one in bins]
            radii = [round(1.5 + 1.2 * math.log10(one["count"]), 1) for one in bins]
            lines.append(Line(name, look, points, radii=radii))
    axis: dict[str, Any] = {"x_label": "predicted probability", "x_range": (0, 1), "x_text": percent, **SHARES}
    return Chart("Reliability", "accuracy of these answers", lines, diagonal=True, **axis)
