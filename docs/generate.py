"""Generate the figures and tables of docs/tutorial.md and the README's badges from the network and the results.

    python docs/generate.py
    python docs/generate.py --check

The first regenerates every part, or those named on the command line. The second writes nothing and exits with 1 if a
part is out of date. Parts that need MNIST are left unchanged if `--data_dir` does not contain it.
"""

import argparse
import functools
import json
import math
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from mnist_lit.data.augmentation import DRAWS, RandomAffine
from mnist_lit.data.datasets import load_dataset
from mnist_lit.data.in_memory import InMemoryDataset
from mnist_lit.data.keyed_random import AUGMENTATION, uniform
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.evaluation.figures import confusion_matrix, gallery
from mnist_lit.evaluation.layers import LayerRow, layer_rows
from mnist_lit.evaluation.report.activations import layer_activations
from mnist_lit.inference.reader import DigitReader
from mnist_lit.model import TutorialCNN
from mnist_lit.module import MNISTModule
from mnist_lit.runs.locate import PRETRAINED, PRETRAINED_DIR
from mnist_lit.runs.recipes import find_recipe, recipe_names

FOLDER = Path(__file__).parent
PAGE = FOLDER / "tutorial.md"
PICTURES = FOLDER / "pictures"
RESULTS = FOLDER.parent / "benchmarks/results"
PUBLISHED = {1: 70.98, 5: 98.44, 10: 99.01, 15: 99.25, 20: 99.34}  # test accuracy in %, from the original's page
RECIPE: dict[str, Any] = {"degrees": 15.0, "crop_prob": 0.1}  # the augmentation of configs/tutorial.yaml
BLUE, RED = "#1f61ab", "#c83c28"  # of the charts
UNCHANGED, WRITTEN, DIFFERS = "up to date", "written", "DIFFERS from the file on disk"

Picture = NDArray[np.uint8] | str  # (H, W, 3), or an SVG


def layer_table() -> str:
    """The network, layer by layer."""
    rows = layer_rows(TutorialCNN())
    lines = [f"| {r.name} | {_shape(r)} | {r.parameters:,} | {r.multiply_adds:,} | {_field(r)} |" for r in rows]
    total = f"| total | | {sum(r.parameters for r in rows):,} | {sum(r.multiply_adds for r in rows):,} | |"
    head = "| Layer | Output | Parameters | Multiply-adds | Receptive field |\n|---|---|---|---|---|"
    return "\n".join((head, "| input | 1×28×28 | | | 1×1 |", *lines, total))


def curve_table() -> str:
    """The epochs whose score the original published, and the best epoch of each curve."""
    ours = _correct_by_epoch()
    lines = [f"| {epoch} | {ours[epoch] / 100:.2f} % | {value:.2f} % |" for epoch, value in PUBLISHED.items()]
    best = max(ours, key=ours.__getitem__)
    lines.append(f"| best of 20 | {ours[best] / 100:.2f} % (epoch {best}) | 99.37 % |")
    return "\n".join(("| Epoch | `mnist-lit fit --config tutorial` | The original |", "|---|---|---|", *lines))


def result_table() -> str:
    """The expected result from each recipe's header."""
    lines = []
    for name in recipe_names():
        header = find_recipe(name).read_text(encoding="utf-8").partition("\nseed_everything")[0]
        expected = re.search(r"Expect\s+([\d.]+(?: ± [\d.]+)? %) on (?:the|those) ([\d,]+)", header)
        if expected:
            lines.append(f"| [{name}](../configs/{name}.yaml) | {expected[1]} | {expected[2]} |")
    lines.sort(key=lambda line: line.split("|")[2])
    return "\n".join(("| Recipe | Accuracy | Test images |", "|---|---|---|", *lines))


def source_table() -> str:
    """The sources of those numbers in the page's prose that no code block prints."""
    ladder = json.loads(RESULTS.joinpath("ladder.json").read_text(encoding="utf-8"))["rungs"]
    original, same_normalization, tutorial = (
        [100 * fraction for fraction in rung["val"]] for rung in list(ladder.values())[:3]
    )
    means = np.mean(original), np.mean(same_normalization)
    test = json.loads(PRETRAINED_DIR.joinpath("provenance.json").read_text(encoding="utf-8"))["test"]
    wrong, error = round(test["images"] * (1 - test["accuracy"])), 100 * math.sqrt(0.994 * 0.006 / 10_000)
    correct = _correct_by_epoch()
    rows = {
        "layers, sizes, parameters, receptive fields": "`cli/summary.py`, on the real network; the code checks them",
        "60,000 and 10,000 images; 0.1307 and 0.3081": "MNIST, measured by `tests/end_to_end/test_mnist.py`",
        "0.1407 and 0.4081; 99.34 % and the other published scores": "the original's page and code",
        "15°, 22×22, batches of 512, 20 epochs": "`configs/tutorial.yaml` and `data/augmentation.py`",
        f"{correct[1] / 100:.2f} … {correct[20] / 100:.2f} %, and the curve": "`tutorial_epochs.json` (seed 0, n = 1)",
        f"{means[1] - means[0]:.2f} points: {means[0]:.2f} and {means[1]:.2f} %": "`ladder.json`: three seeds of one "
        "epoch, on 5,000 validation images",
        f"{min(tutorial):.0f} and {max(tutorial):.0f} % after one epoch": "the same, `mnist-lit fit --config tutorial`",
        f"{_optimizers()['steps']} steps, and the charts of EMA, Muon and SAM": "`optimizers.json` (seed 0, n = 1)",
        f"{error:.2f} points": "√(p (1 − p) / n) for p = 99.4 % and n = 10,000",
        f"{wrong} wrong, {test['images'] - wrong:,} of {test['images']:,} right": "`provenance.json` of the shipped "
        "model; drawing the pictures counts them again",
        "the results": "the header of each recipe in `configs/`, with seeds, machine and date",
    }
    return "\n".join(
        ("| Number | Source |", "|---|---|", *(f"| {number} | {source} |" for number, source in rows.items()))
    )


def augmented(data_dir: str) -> Picture:
    """Six digits, each original followed by its augmentation in eight epochs of the tutorial's recipe."""
    datamodule, data, epochs = MNISTDataModule(data_dir, **RECIPE), _mnist(data_dir), 8
    indices = torch.tensor([int((data.train_labels == label).nonzero()[0]) for label in (2, 3, 4, 5, 7, 9)])
    images, labels = data.train_images[indices], data.train_labels[indices]
    columns, captions = [images], [[f"the {label}" for label in labels.tolist()]]
    for epoch in range(epochs):
        columns.append(datamodule.augment(images, labels, indices, epoch))
        draws = uniform(datamodule.seed, epoch, indices, DRAWS, stream=AUGMENTATION)
        parameters = RandomAffine(**RECIPE).parameters(draws)
        pairs = zip(parameters["angle"].tolist(), parameters["zoom"].tolist(), strict=True)
        captions.append([f"{angle:+.0f}°{', zoomed' if zoom > 1 else ''}" for angle, zoom in pairs])
    cells = torch.stack(columns, dim=1).flatten(0, 1).numpy()  # (6 · 9, 28, 28), one row per digit
    return gallery(cells, [text for row in zip(*captions, strict=True) for text in row], columns=epochs + 1, width=900)


def resampling(data_dir: str) -> Picture:
    """The same zoom and rotation in two resamplings, as in the original, and in one."""
    data = _mnist(data_dir)
    indices = [int((data.train_labels == label).nonzero()[0]) for label in (4, 5, 8)]
    images = data.train_images[indices]
    angle = 12.0
    draws = torch.full((len(images), DRAWS), 0.5)
    draws[:, 0], draws[:, 5] = (angle / RECIPE["degrees"] + 1) / 2, 0
    once = RandomAffine(degrees=RECIPE["degrees"], crop_prob=1)(images, draws)
    cells, captions = [], []
    for image, resampled_once in zip(images, once, strict=True):
        zoomed = TF.resize(TF.center_crop(Image.fromarray(image.numpy()), [22, 22]), [28, 28])
        twice = [
            np.asarray(TF.rotate(zoomed, -angle, mode))
            for mode in (InterpolationMode.NEAREST, InterpolationMode.BILINEAR)
        ]
        cells += [image.numpy(), *twice, resampled_once.numpy()]
        captions += ["as it is", "twice, like\nthe original", "twice, both\nsmoothly", "once"]
    return gallery(np.stack(cells), captions, columns=4)


def mistakes(data_dir: str) -> Picture:
    """Every test image that the shipped model misreads, the most confident mistake first."""
    images, labels, probs = _read(data_dir)
    predicted = probs.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-probs[wrong, predicted[wrong]], kind="stable")]
    captions = [f"true {labels[n]}, said {predicted[n]}\n{probs[n].max():.0%}  #{n}" for n in wrong]
    return gallery(images[wrong], captions, columns=8, width=900)


def confusion(data_dir: str) -> Picture:
    """The shipped model's confusion matrix on the test images."""
    _, labels, probs = _read(data_dir)
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, probs.argmax(axis=1)), 1)
    return confusion_matrix(counts, [str(label) for label in range(10)])


def features(data_dir: str) -> Picture:
    """A digit and the strongest eight maps of each convolution of the shipped model."""
    data, side, gap, left = _mnist(data_dir), 72, 6, 118
    image = data.test_images[int((data.test_labels == 4).nonzero()[0])]
    network = MNISTModule.load_from_checkpoint(PRETRAINED_DIR / "model.ckpt", map_location="cpu").ema
    assert network
    rows = [("input", "28 pixels wide", image.numpy()[None])]
    for layer in layer_activations(network, image):
        rows.append((layer.name, f"{layer.total} maps, {layer.maps.shape[1]} wide", layer.maps))
    canvas = Image.new("RGB", (left + 8 * (side + gap), gap + len(rows) * (side + gap)), "white")
    draw, fonts = ImageDraw.Draw(canvas), [ImageFont.load_default(size) for size in (14, 12)]
    for row, (name, shape, maps) in enumerate(rows):
        y = gap + row * (side + gap)
        draw.text((gap, y + side / 2 - 10), name, "#202124", fonts[0], "lm")
        draw.text((gap, y + side / 2 + 10), shape, "#5f6368", fonts[1], "lm")
        for column, single in enumerate(maps):
            enlarged = Image.fromarray(single).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(enlarged, (left + column * (side + gap), y))
    return np.asarray(canvas)


def curve(_: str) -> Picture:
    """The test error after each epoch: ours as a line, the original's as rings."""
    ours = [(epoch, 100 - correct / 100) for epoch, correct in _correct_by_epoch().items()]
    published = [(epoch, 100 - accuracy) for epoch, accuracy in PUBLISHED.items()]
    return chart(
        "Test error after each epoch, in % of 10,000 images",
        ("epoch", [*PUBLISHED]),
        ("test error", {mark: f"{mark:g} %" for mark in (0.5, 1, 2, 4, 8, 16, 32)}),
        [
            Series("mnist-lit fit --config tutorial", ours, BLUE, "●"),
            Series("published by the original", published, RED, "○"),
        ],
    )


def ema(_: str) -> Picture:
    """The validation error during a training at a constant rate, of the weights and of their average."""
    run = _optimizers()["averaging"]
    pairs = (("the weights", "weights", RED), ("their average", "average", BLUE))
    return chart(
        "Validation error of the weights and of their average during training",
        ("step", range(0, 301, 50)),
        ("validation error", {mark: f"{mark} %" for mark in (2, 4, 8, 16, 32, 64)}),
        [Series(label, [*zip(run["step"], run[name], strict=True)][1:], color) for label, name, color in pairs],
    )


def muon(_: str) -> Picture:
    """The singular values of one update of conv3, before and after it is orthogonalized."""
    values = _optimizers()["singular_values"]
    pairs = (("Muon's update", "update", BLUE), ("the gradients' average", "momentum", RED))
    return chart(
        "Singular values of an update of conv3, as fractions of the largest, before and after orthogonalization",
        ("singular value, largest first", [1, *range(16, 129, 16)]),
        ("fraction of the largest", {10.0**n: f"{10.0**n:g}" for n in range(-3, 1)}),
        [
            Series(label, [(n, value / values[name][0]) for n, value in enumerate(values[name], 1)], color)
            for label, name, color in pairs
        ],
        legend=110,
    )


def sam(_: str) -> Picture:
    """The validation loss at growing distances from the trained weights, trained with and without SAM."""
    run = _optimizers()["sharpness"]
    pairs = (("trained without SAM", "without", RED), ("trained with SAM", "with", BLUE))
    return chart(
        "Validation loss by the distance that the trained weights are moved, with and without SAM",
        ("distance in the direction of the gradient", [n / 2 for n in range(5)]),
        ("validation loss", {mark: f"{mark:g}" for mark in (0.01, 0.1, 1, 10, 100)}),
        [Series(label, [*zip(run["distance"], run[name], strict=True)], color) for label, name, color in pairs],
        legend=257,
    )


class Series(NamedTuple):
    """Points of a chart, which a line joins unless the mark is a ring."""

    label: str
    points: Sequence[tuple[float, float]]
    color: str
    mark: str = "—"  # before the label; ● adds dots to the line, ○ draws rings only


def chart(
    title: str,
    x_axis: tuple[str, Sequence[float]],
    y_axis: tuple[str, dict[float, str]],
    series: list[Series],
    legend: int = 70,
) -> str:
    """An SVG with a logarithmic y axis. Axes: name and ticks, the first and last at their ends. legend: its top."""
    width, height, left, right, top, bottom = 720, 340, 64, 24, 36, 46
    (x_name, x_ticks), (y_name, y_ticks) = x_axis, y_axis
    low, high = min(y_ticks), max(y_ticks)

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]), math.log(y / low) / math.log(high / low)
        return left + across * (width - left - right), height - bottom - up * (height - top - bottom)

    parts = [f'<rect width="{width}" height="{height}" fill="#fff"/>', f'<text x="10" y="18">{y_name}</text>']
    for tick, text in y_ticks.items():
        _, y = at(x_ticks[0], tick)
        parts.append(f'<path d="M{left} {y:.1f}H{width - right}" stroke="#e4e6ea"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for tick in x_ticks:
        x, _ = at(tick, low)
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 20}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">{x_name}</text>')
    for row, (label, points, color, mark) in enumerate(series):
        placed = [at(*point) for point in points]
        if mark != "○":
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        look = {"●": f'r="3" fill="{color}"', "○": f'r="6" fill="none" stroke="{color}" stroke-width="2"'}.get(mark)
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" {look}/>' for x, y in placed if look]
        at_end = f'x="{width - 34}" y="{legend + 22 * row}" text-anchor="end" fill="{color}"'
        parts.append(f"<text {at_end}>{mark} {label}</text>")
    style = 'font-family="sans-serif" font-size="13" fill="#202124" role="img"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" {style}>'
    return "\n".join((head, f"<title>{title}</title>", *parts, "</svg>\n"))


def badge(name: str, value: str) -> str:
    """Two labeled boxes, 6.6 pixels per letter, for the top of the README."""
    left, right = round(6.6 * len(name)) + 16, round(6.6 * len(value)) + 16
    text = 'y="14" text-anchor="middle" fill="#fff"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" \
font-family="Verdana, DejaVu Sans, sans-serif" font-size="11">
<title>{name}: {value}</title>
<rect width="{left + right}" height="20" rx="3" fill="#3549b0"/>
<path d="M3 0h{left - 3}v20h-{left - 3}a3 3 0 0 1-3-3v-14a3 3 0 0 1 3-3" fill="#555"/>
<text x="{left / 2}" {text}>{name}</text>
<text x="{left + right / 2}" {text}>{value}</text>
</svg>
"""


def python_badge(_: str) -> Picture:
    """The versions of Python that pyproject.toml names."""
    prefix = "Programming Language :: Python :: 3."
    minor = sorted(int(line.removeprefix(prefix)) for line in _project()["classifiers"] if line.startswith(prefix))
    return badge("python", " | ".join(f"3.{version}" for version in minor))


def torch_badge(_: str) -> Picture:
    """The oldest torch that pyproject.toml accepts."""
    return badge(
        "torch",
        next(line.replace("torch>=", "≥ ") for line in _project()["dependencies"] if line.startswith("torch>=")),
    )


def parameters_badge(_: str) -> Picture:
    """The number of the network's parameters, counted."""
    return badge("parameters", f"{sum(weights.numel() for weights in TutorialCNN().parameters()):,}")


def license_badge(_: str) -> Picture:
    """The license that pyproject.toml names."""
    return badge("license", _project()["license"])


TABLES: dict[str, Callable[[], str]] = {
    "layers": layer_table,
    "curves": curve_table,
    "results": result_table,
    "sources": source_table,
}
FIGURES: dict[str, Callable[[str], Picture]] = {
    "curve.svg": curve,
    "augmented.png": augmented,
    "resampling.png": resampling,
    "mistakes.png": mistakes,
    "confusion.png": confusion,
    "features.png": features,
    "ema.svg": ema,
    "muon.svg": muon,
    "sam.svg": sam,
    "python.svg": python_badge,
    "torch.svg": torch_badge,
    "parameters.svg": parameters_badge,
    "license.svg": license_badge,
}


def main(args: list[str] | None = None) -> int:
    """Write or check the parts; return 1 if a check finds one that differs, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: all of {', '.join((*TABLES, *FIGURES))}")
    parser.add_argument("--data_dir", default="data", help="folder with MNIST's archives (default: data)")
    parser.add_argument("--check", action="store_true", help="compare without writing")
    options = parser.parse_args(args)
    if unknown := set(options.parts) - {*TABLES, *FIGURES}:
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    differ = False
    for name in options.parts or [*TABLES, *FIGURES]:
        try:
            status = _update_table(name, check=options.check) if name in TABLES else _update_figure(name, options)
        except InputError:
            status = "left unchanged: MNIST not found, `mnist-lit data` downloads it"
        print(f"{name:<16}{status}")
        differ |= status == DIFFERS
    return int(differ)


def _update_table(name: str, *, check: bool) -> str:
    page = PAGE.read_text(encoding="utf-8")
    start = f"<!-- generated: {name} -->\n"
    updated = re.sub(
        f"{start}.*?<!-- /generated -->", f"{start}\n{TABLES[name]()}\n\n<!-- /generated -->", page, flags=re.DOTALL
    )
    if updated == page:
        return UNCHANGED
    if not check:
        PAGE.write_text(updated, encoding="utf-8")
    return DIFFERS if check else WRITTEN


def _update_figure(name: str, options: argparse.Namespace) -> str:
    path, drawn = PICTURES / name, FIGURES[name](options.data_dir)
    if path.is_file() and _equal(path, drawn):
        return UNCHANGED
    if options.check:
        return DIFFERS
    if isinstance(drawn, str):
        path.write_text(drawn, encoding="utf-8")
    else:
        Image.fromarray(drawn).save(path, optimize=True)
    return WRITTEN


def _equal(path: Path, drawn: Picture) -> bool:
    """Whether the file shows the same figure; library versions may round pixels differently."""
    if isinstance(drawn, str):
        return path.read_text(encoding="utf-8") == drawn
    kept = np.asarray(Image.open(path).convert("RGB"), np.int16)
    return kept.shape == drawn.shape and float(np.abs(kept - drawn).mean()) < 0.1


@functools.cache
def _mnist(data_dir: str) -> InMemoryDataset:
    return load_dataset("mnist", data_dir)


@functools.cache
def _read(data_dir: str) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]:
    """MNIST's test images, their labels, and the shipped model's calibrated probabilities (N, 10)."""
    data = _mnist(data_dir)
    images = data.test_images.numpy()
    return images, data.test_labels.numpy(), DigitReader.load(PRETRAINED).classify(images)[0]


def _project() -> dict[str, Any]:
    text = FOLDER.parent.joinpath("pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    return project


def _optimizers() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(RESULTS.joinpath("optimizers.json").read_text(encoding="utf-8"))
    return content


def _correct_by_epoch() -> dict[int, int]:
    """The number of the 10,000 test images classified correctly after each epoch of the tutorial's recipe."""
    counts = json.loads(RESULTS.joinpath("tutorial_epochs.json").read_text(encoding="utf-8"))["right"]
    return {int(epoch): correct for epoch, correct in counts.items()}


def _shape(row: LayerRow) -> str:
    return "×".join(map(str, row.shape))


def _field(row: LayerRow) -> str:
    return f"{row.receptive_field}×{row.receptive_field}" if row.receptive_field else "all"


if __name__ == "__main__":
    raise SystemExit(main())
