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

from mnist_lit.data.datasets import DATASETS
from mnist_lit.evaluation.figures import png_url, tiles
from mnist_lit.evaluation.report.activations import LayerActivations
from mnist_lit.evaluation.report.charts import BOTTOM, LEFT, RIGHT, TOP, Chart, Line, Point, tick_percent
from mnist_lit.evaluation.report.scores import MISTAKES, PAIRS, SUSPECT
from mnist_lit.system.console import duration, percent

Images = NDArray[np.uint8]
NUMBER_FORMATS: dict[str, Callable[[Any], str]] = {
    "count": lambda value: f"{value:,}",
    "step": lambda value: f"{value:,.10g}",
    "index": str,
    "probability": lambda value: f"{100 * value:.1f} %",
    "amount": lambda value: f"{value:g}".replace("-", "−"),
    "loss": lambda value: f"{value:#.3g}" if value >= 1e-6 else "< 0.000001",
    "temperature": lambda value: f"{value:.2f}",
}
MAX_COLOR_DEPTH = 0.55  # the deepest color of a mistake, on which dark text stays readable
PAIR_IMAGES, ALL_PAIRS_IMAGES = 12, 600  # images shown per cell of the confusion matrix, and of all cells, at most
PERCENT_Y: dict[str, Any] = {"y_range": (0, 1), "y_text": tick_percent}


def render_page(report: Mapping[str, Any], images: Images, filters: Images, layers: Sequence[LayerActivations]) -> str:
    """The report, see `build_report`, as one HTML file. images: the test images, uint8 (N, 28, 28); filters, layers:
    see `first_filters` and `layer_activations`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.loader = FileSystemLoader(Path(__file__).parent)
    environment.globals.update(images_shown=MISTAKES, pairs=PAIRS, suspect=SUSPECT)
    url = partial(png_url, optimize=True)

    def number(key: str, style: str = "count", images: int | None = None) -> Markup:
        return data(key, NUMBER_FORMATS[style] if images is None else partial(percent, images=images), "number")

    def data(key: str, text: Callable[[Any], str], css_class: str) -> Markup:
        value: Any = report
        for part in key.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        shown = ("", "–") if value is None else (value, text(value))
        return Markup('<data class="{}" data-key="{}" value="{}">{}</data>').format(css_class, key, *shown)

    pairs = _mistakes_by_pair(report["test"])
    return environment.get_template("page.html").render(
        report,
        title=_title(report),
        machine=_machine(report["origin"]["versions"]),
        duration=duration(seconds) if (seconds := report["origin"]["seconds"]) is not None else None,
        number=number,
        class_name=lambda key: data(key, report["classes"].__getitem__, "name"),
        picture=lambda index: url(images[index]),
        depths=_color_depths(report["test"]["confusion"]),
        mistakes_of=pairs,
        pair_images=max(1, min(PAIR_IMAGES, ALL_PAIRS_IMAGES // max(1, len(pairs)))),
        charts=_charts(report),
        epoch_rows=_epoch_rows(report["curves"]),
        plot={"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
        filters=url(tiles(filters, columns=8)) if len(filters) else "",
        layers=[(layer, [url(channel) for channel in layer.maps]) for layer in layers],
        filter_count=len(filters),
    )


def _color_depths(confusion: list[list[int]] | None) -> list[list[float]]:
    """The color depth of each cell: its fraction of its row; for mistakes, the root of that relative to the largest."""
    counts = np.array(confusion or [[0]])
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    correct = np.eye(len(counts), dtype=bool)
    worst = max(float(fractions[~correct].max(initial=0)), 1e-12)
    depths = np.where(correct, fractions, MAX_COLOR_DEPTH * (fractions / worst) ** 0.5)
    return [[round(value, 3) for value in row] for row in depths.tolist()]


def _title(report: Mapping[str, Any]) -> str:
    """The recipe, or else the run's name, and the dataset; of a group, how many seeds."""
    group, origin = report["group"], report["origin"]
    seeds = f", {group['n']} seed{'s' if group['n'] > 1 else ''}" if group else ""
    return f"{origin['recipe'] or report['name']} on {DATASETS[origin['data']['dataset']].title}{seeds}"


def _machine(versions: Mapping[str, str]) -> str:
    """GPU, processor and threads, as far as they were recorded."""
    threads = versions.get("threads")
    parts = versions.get("gpu"), versions.get("cpu"), threads and f"{threads} thread{'s' if threads != '1' else ''}"
    return ", ".join(part for part in parts if part)


def _mistakes_by_pair(test: Mapping[str, Any]) -> dict[tuple[int, int], list[int]]:
    """The positions of the mistakes of each cell of the matrix, or of each pair in the list that stands for it."""
    found: dict[tuple[int, int], list[int]] = {}
    for position, mistake in enumerate(test["mistakes"]):
        found.setdefault((mistake["true"], mistake["predicted"]), []).append(position)
    shown = {(pair["true"], pair["predicted"]) for pair in test["confused"]}
    return {pair: found[pair] for pair in sorted(found) if test["confusion"] or pair in shown}


def _charts(report: Mapping[str, Any]) -> dict[str, Any]:
    test, robustness = report["test"], report["robustness"]
    curve, accuracy = test["coverage"]["curve"], partial(percent, images=test["images"])
    axes: dict[str, Any] = {"x_label": "coverage: fraction of images answered", "x_text": tick_percent}
    answered = [Line("accuracy", "main", curve, accuracy, dots=False)]
    changes = []
    for name, change in robustness["changes"].items():
        points = [(point["amount"], point["accuracy"]) for point in change["points"]]
        band = [(point["amount"], point["low"], point["high"]) for point in change["points"]]
        line = Line("accuracy", "main", points, partial(percent, images=robustness["images"]), band=band)
        level = robustness["accuracy"]
        changes.append(Chart(name.capitalize(), "accuracy", [line], x_label=change["unit"], level=level, **PERCENT_Y))
    return {
        **_training_charts(report["curves"], report["origin"]),
        "reliability": _reliability_chart(test["calibration"]),
        "coverage": Chart(
            "Accuracy", "of the answered images", answered, y_range=_near_one(curve), y_text=tick_percent, **axes
        ),
        "robustness": changes,
    }


def _training_charts(curves: Mapping[str, Sequence[Point]], origin: Mapping[str, Any]) -> dict[str, Chart]:
    """Loss, accuracy and learning rate over the steps; a single point is not a curve, so only the table has it."""
    last, per_epoch = max((points[-1][0] for points in curves.values() if points), default=0), origin["steps_per_epoch"]
    axis: dict[str, Any] = {"x_label": f"step ({per_epoch:,} per epoch)", "x_range": (0, last), "x_word": "step "}

    def line(name: str, look: str, curve: str, images: int | None = None, *, dots: bool = True) -> Line:
        text = NUMBER_FORMATS["loss"] if images is None else partial(percent, images=images)
        return Line(name, look, curves[curve], text, dots=dots, key=f"curves.{curve}", style="loss", images=images)

    train, val = origin["data"]["train"], origin["data"]["val"]
    drawn = {
        "loss": (
            line("train, single steps", "faint", "train/loss_step", dots=False),
            line("train, mean of each epoch", "quiet", "train/loss"),
            line("val", "main", "val/loss"),
        ),
        "accuracy": (
            line("train, mean of each epoch", "quiet", "train/acc", train),
            line("val", "main", "val/acc", val),
        ),
        "rate": (Line("learning rate", "main", curves["lr"], NUMBER_FORMATS["loss"], dots=False),),
    }
    lines = {name: [one for one in found if len(one.points) > 1] for name, found in drawn.items()}
    points = [point for one in lines["accuracy"] for point in one.points]
    charts = {
        "loss": Chart("Loss", "nats, logarithmic", lines["loss"], logarithmic=True, **axis),
        "accuracy": Chart("Accuracy", "", lines["accuracy"], y_range=_near_one(points), y_text=tick_percent, **axis),
        "rate": Chart("Learning rate", "", lines["rate"], **axis),
    }
    return {name: chart for name, chart in charts.items() if chart.lines}


def _epoch_rows(curves: Mapping[str, Sequence[Point]]) -> list[tuple[str, dict[str, int]]]:
    """For each step at which an epoch or a validation ended: its key, and the position in each curve that has it."""
    rows: dict[float, tuple[str, dict[str, int]]] = {}
    for name in ("train/loss", "val/loss", "train/acc", "val/acc"):
        for position, (step, _) in enumerate(curves[name]):
            rows.setdefault(step, (f"curves.{name}.{position}.0", {}))[1][name] = position
    return [rows[step] for step in sorted(rows)]


def _near_one(points: Sequence[Point]) -> Point:
    """The range of the y axis for accuracies near 1, its upper end; a damaged table may hold larger ones."""
    low = min((min(accuracy, 1) for _, accuracy in points), default=0)
    return min(low, 1 - 1e-3), 1


def _reliability_chart(calibration: Mapping[str, Any]) -> Chart:
    lines = []
    for when, name, look in (("before", "as trained", "quiet"), ("after", "calibrated", "main")):
        if calibration[when]:
            bins = [one for one in calibration[when]["bins"] if one["count"]]
            points = [(one["confidence"], one["accuracy"]) for one in bins]
            radii = [round(1.5 + 1.2 * math.log10(one["count"]), 1) for one in bins]
            lines.append(Line(name, look, points, NUMBER_FORMATS["probability"], radii=radii))
    axis: dict[str, Any] = {"x_label": "predicted probability", "x_range": (0, 1), "x_text": tick_percent, **PERCENT_Y}
    return Chart("Reliability", "accuracy of these answers", lines, diagonal=True, **axis)
