"""The page: the report's numbers laid out by `page.html`, charts and pictures drawn into it. Computes no number.

Whatever is text is escaped by Jinja, charts included. Each number carries its place in `--json`'s object as `data-key`.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from mnist_lit.evaluation.figures import png_bytes, tiles
from mnist_lit.evaluation.report.activations import LayerActivations
from mnist_lit.evaluation.report.charts import PLOT, Chart, Line, Point, percent
from mnist_lit.evaluation.report.scores import MISTAKES, PAIRS, SUSPECT

__all__ = ["render_page"]

NONE = "–"
STYLES: dict[str, Callable[[Any], str]] = {
    "count": lambda value: f"{value:,}",
    "index": str,
    "percent": lambda value: f"{100 * value:.2f} %",
    "percent1": lambda value: f"{100 * value:.1f} %",
    "points": lambda value: f"{100 * value:.3f}",
    "decimal": lambda value: f"{value:.4f}".replace("-0.0000", "0.0000"),
    "amount": lambda value: f"{value:g}".replace("-", "−"),
}
FAINT = 0.55  # the deepest colour of a mistake: its text stays dark


def render_page(
    report: Mapping[str, Any], images: NDArray[np.uint8], first: NDArray[np.uint8], layers: Sequence[LayerActivations]
) -> str:
    """One HTML file. images: the test's, uint8 (N, 28, 28); first and layers: see `filters`."""
    place = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=place, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )

    def at(path: str) -> Any:
        found: Any = report
        for part in path.split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]
        return found

    def number(path: str, style: str = "count") -> Markup:
        return _value(path, at(path), STYLES[style])

    def class_name(path: str) -> Markup:
        return _value(path, at(path), report["classes"].__getitem__, "name")

    return environment.get_template("page.html").render(
        report,
        number=number,
        class_name=class_name,
        picture=lambda index: _uri(images[index]),
        depths=_depths(report["test"]["confusion"]),
        charts=_charts(report),
        plot=PLOT,
        filters=_uri(tiles(first, columns=8)),
        layers=[(layer, [_uri(one) for one in layer.maps]) for layer in layers],
        images_shown=MISTAKES,
        pairs=PAIRS,
        suspect=SUSPECT,
        filter_count=len(first),
    )


def _value(path: str, value: Any, text: Callable[[Any], str], look: str = "number") -> Markup:
    shown = ("", NONE) if value is None else (value, text(value))
    return Markup('<data class="{}" data-key="{}" value="{}">{}</data>').format(look, path, *shown)


def _uri(picture: NDArray[np.uint8]) -> str:
    return f"data:image/png;base64,{base64.b64encode(png_bytes(picture)).decode()}"


def _depths(confusion: list[list[int]] | None) -> list[list[float]]:
    """How deep each cell's colour is: the share of its row; of mistakes, the root of it beside the greatest's."""
    counts = np.array(confusion or [[0]])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.eye(len(counts), dtype=bool)
    worst = max(float(shares[~right].max(initial=0)), 1e-12)
    depths = np.where(right, shares, FAINT * (shares / worst) ** 0.5)
    return [[round(value, 3) for value in row] for row in depths.tolist()]


def _charts(report: Mapping[str, Any]) -> dict[str, Any]:
    test, robustness = report["test"], report["robustness"]
    answered = Line("accuracy", "main", test["coverage"]["curve"], dots=False)
    coverage = Chart(
        "Accuracy",
        "of the images that are answered",
        [answered],
        x_label="share of the images that are answered",
        y_range=_below_one([accuracy for _, accuracy in answered.points]),
        x_text=percent,
        y_text=percent,
    )
    return {
        **_training(report["curves"]),
        "reliability": _reliability(test["calibration"]),
        "coverage": coverage,
        "robustness": [
            Chart(
                name.capitalize(),
                "accuracy",
                [
                    Line(
                        "accuracy",
                        "main",
                        [(p["amount"], p["accuracy"]) for p in change["points"]],
                        band=[(p["amount"], p["low"], p["high"]) for p in change["points"]],
                    )
                ],
                x_label=change["unit"],
                y_range=(0, 1),
                y_text=percent,
                level=robustness["accuracy"],
            )
            for name, change in robustness["changes"].items()
        ],
    }


def _training(curves: Mapping[str, Sequence[Point]]) -> dict[str, Chart]:
    """Loss and learning rate over the steps, and the accuracy where it was taken more than once."""
    last = max((points[-1][0] for points in curves.values() if points), default=0)
    axis: dict[str, Any] = {"x_label": "optimizer steps", "x_range": (0, last)}
    if not last:
        return {}
    loss = [
        Line("training, step by step", "faint", curves["train/loss_step"], dots=False),
        Line("training", "quiet", curves["train/loss"]),
        Line("validation", "main", curves["val/loss"]),
    ]
    rate = [Line("learning rate", "main", curves["lr"], dots=False)]
    charts = {
        "loss": Chart("Loss", "nats, logarithmic", loss, logarithmic=True, **axis),
        "rate": Chart("Learning rate", "", rate, **axis),
    }
    accuracy = [Line("training", "quiet", curves["train/acc"]), Line("validation", "main", curves["val/acc"])]
    scores = [score for line in accuracy for _, score in line.points]
    if len(scores) > 1:
        charts["accuracy"] = Chart("Accuracy", "", accuracy, y_range=_below_one(scores), y_text=percent, **axis)
    return charts


def _below_one(shares: Sequence[float]) -> Point:
    """An axis for accuracies that are near to 1: it ends there."""
    low = min(shares)
    return low - 0.05 * (1 - low) - 1e-3, 1


def _reliability(calibration: Mapping[str, Any]) -> Chart:
    lines = []
    for when, name, look in (("before", "as trained", "quiet"), ("after", "calibrated", "main")):
        if calibration[when]:
            bins = [one for one in calibration[when]["bins"] if one["count"]]
            points = [(one["confidence"], one["accuracy"]) for one in bins]
            radii = [round(1.5 + 1.2 * math.log10(one["count"]), 1) for one in bins]
            lines.append(Line(name, look, points, radii=radii))
    axis: dict[str, Any] = {"x_range": (0, 1), "y_range": (0, 1), "x_text": percent, "y_text": percent}
    return Chart(
        "Reliability", "of these answers, right", lines, x_label="probability of the answer", diagonal=True, **axis
    )
