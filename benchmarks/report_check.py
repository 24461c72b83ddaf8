"""Recompute every number of a run's report independently and compare.

    python benchmarks/report_check.py lightning_logs/version_0

Builds the report twice, as a page and as JSON, and recomputes its contents from `predictions.csv`, `metrics.csv`, the
checkpoint's weights and the test images with NumPy, SciPy, scikit-learn and a network written out here. Of the project
it uses only the data module. Robustness is measured with `scipy.ndimage`, which may round a pixel differently, so
counts there may differ by 0.3 % of the images. Dates, commands, the configuration and units are not compared. Prints a
table and exits with 1 if anything differs.
"""

import argparse
import bisect
import csv
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from numpy.typing import NDArray
from scipy import ndimage, special, stats
from sklearn import metrics

from mnist_lit.datamodule import MNISTDataModule

RTOL = 2e-6  # probabilities in predictions.csv have nine digits
ROBUSTNESS_TOL = 0.003  # fraction of the images; pixels may round differently
BINS = 15  # of the reliability diagram
SUSPECT = 0.9  # least probability of a mistake whose label may be wrong
POINTS, PAIRS = 200, 30  # most points of a curve, most confused pairs
GOLDEN = 0x9E3779B97F4A7C15  # 2⁶⁴ / golden ratio, SplitMix64's increment
STREAM = 7  # random stream of the robustness measurements


def main() -> int:
    """Compare; returns 1 if a number differs or is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run, or of a group")
    parser.add_argument("--data_dir", help="folder with the dataset's files (default: the run's)")
    parser.add_argument("--images", type=int, default=2000, help="images for robustness (default: 2000)")
    parser.add_argument("--all", action="store_true", help="print a row per number instead of per kind of number")
    options = parser.parse_args()
    data_dir = ["--data_dir", options.data_dir] if options.data_dir else []
    command = [sys.executable, "-m", "mnist_lit", "report", str(options.run), "--images", str(options.images)]
    command += data_dir
    report = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        subprocess.run([*command, "--output", str(page)], stdout=subprocess.DEVNULL, check=True)
        page_values = ReportPage(page.read_text(encoding="utf-8")).values
    for key in ("began", "seconds", "recipe", "commands", "config", "earlier"):
        del report["origin"][key]
    for change in report["robustness"]["changes"].values():
        del change["unit"]
    recomputed = dict(leaves(expected(options.run, options.data_dir, options.images, report["origin"]["settings"])))
    images = recomputed["robustness.images"]
    rows = [(path, value, recomputed.get(path, "missing")) for path, value in leaves(report)]
    rows += [(path, "missing", value) for path, value in recomputed.items() if path not in dict(leaves(report))]
    wrong = [row for row in rows if not is_close(*row, images)]
    kinds: dict[str, list[tuple[str, Any, Any]]] = {}
    for row in rows:
        kinds.setdefault(row[0] if options.all else re.sub(r"\.\d+(?=\.|$)", ".*", row[0]), []).append(row)
    print(f"{'number':<58}{'count':>9}{'largest difference':>20}   example: report, recomputed")
    for kind, members in kinds.items():
        largest = max((difference(value, other) for _, value, other in members), default=0.0)
        print(f"{kind:<58}{len(members):>9,}{largest:>20.2g}   {members[0][1]}, {members[0][2]}")
    for path, text in page_values:
        if path == "origin.seconds":  # a date's, not compared
            continue
        value = recomputed.get(path, "missing")
        if not shows(text, value, report["classes"], path, images):
            wrong.append((f"page: {path}", text, value))
    print(
        f"\n{len(rows):,} numbers and names in the JSON, {len(page_values):,} on the page, {len(wrong):,} of them wrong"
    )
    for row in wrong:
        print("WRONG", *row)
    return int(bool(wrong))


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number, name and None in a tree of dicts and lists, with its dotted path."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if inner is None:
        yield path, tree
    else:
        for key, value in inner:
            yield from leaves(value, f"{path}.{key}" if path else str(key))


def difference(value: Any, other: Any) -> float:
    """The distance of two numbers; of anything else 0 if equal, else infinity."""
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (value, other))
    return abs(value - other) if numbers else 0.0 if value == other else math.inf


def is_close(path: str, value: Any, other: Any, images: int) -> bool:
    """Whether a number of the JSON agrees with the recomputed one."""
    if path.startswith("robustness.") and path.rpartition(".")[2] in ("right", "accuracy", "low", "high"):
        return difference(value, other) <= ROBUSTNESS_TOL * (images if path.endswith(".right") else 1.5)
    return difference(value, other) <= RTOL * max(1e-3, abs(other) if isinstance(other, int | float) else 1)


def shows(text: str, value: Any, classes: list[str], path: str, images: int) -> bool:
    """Whether text on the page is a class's name, or a number that agrees to the digits shown."""
    if value is None or text == "–":
        return value is None and text == "–"
    if path.rpartition(".")[2] in ("true", "predicted", "taken_for"):
        return isinstance(value, int) and text == classes[value]
    if isinstance(value, str):
        return False
    plain = text.replace(",", "").replace("−", "-")
    in_points = plain.endswith(" %") or path == "group.sd"
    number, digits = float(plain.removesuffix(" %")), len(plain.removesuffix(" %").partition(".")[2])
    tolerance = 0.5 * 10.0**-digits * (1 + 1e-6) if digits or in_points else 0.0
    if path.startswith("robustness.") and not path.endswith(("amount", "images")):
        tolerance += ROBUSTNESS_TOL * (150 if in_points else images)
    return bool(abs(number - value * (100 if in_points else 1)) <= tolerance + RTOL)


class ReportPage(HTMLParser):
    """The numbers on a page: the text of every `<data data-key>`, as (key, text)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.values: list[tuple[str, str]] = []
        self._key: str | None = None
        self._text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a number."""
        if tag == "data":
            self._key, self._text = dict(attrs)["data-key"], ""

    def handle_data(self, data: str) -> None:
        """Collect its text."""
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        """End it."""
        if tag == "data" and self._key:
            self.values.append((self._key, self._text))
            self._key = None


def expected(folder: Path, data_dir: str | None, count: int, settings: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole report, recomputed. settings: those the report names; their values are looked up in the config."""
    members = sorted(folder.glob("seed_*"), key=lambda run: int(run.name[5:]))
    runs = members or [folder]
    networks = [Network(run) for run in runs]
    config = networks[0].config
    data = MNISTDataModule(**config["data"] | ({"data_dir": data_dir} if data_dir else {}))
    data.setup()
    images, labels = data.in_memory.test_images.numpy(), data.in_memory.test_labels.numpy()
    tests = [read_predictions(run) for run in runs]
    name = folder.resolve().name
    first = f"{name}/{runs[0].name}" if members else name
    validations = metric_rows(runs[0], "val/acc")
    ranks = [(float(row["val/acc"]), -float(row["val/loss"]), -int(row["epoch"])) for row in validations]
    best = max(ranks, default=None)
    versions = networks[0].metadata["versions"]
    sections = [setting["name"].partition(".") for setting in settings]
    batches = math.ceil((len(data.in_memory.train_labels) - data.val_size) / config["data"]["batch_size"])
    limit = config["trainer"].get("limit_train_batches") or 1.0
    batches = min(batches, limit) if isinstance(limit, int) else int(limit * batches)
    return {
        "mnist_lit": versions["mnist-lit"],
        "name": name,
        "run": first,
        "classes": list(data.in_memory.classes),
        "files": file_names(*prediction_rows(runs[0])),
        "test": expected_test(*tests[0], networks[0], images, data.in_memory.classes),
        "group": expected_group(name, runs, tests, networks) if members else None,
        "curves": {column: curve_points(runs[0], column) for column in CURVES},
        "robustness": expected_robustness(networks[0], images, labels, count),
        "origin": {
            "steps": networks[0].steps,
            "epochs": trained_epochs(runs[0]),
            "finished": all(run.joinpath("finished").exists() for run in runs),
            "steps_per_epoch": math.ceil(batches / (config["trainer"].get("accumulate_grad_batches") or 1)),
            "seed": config["seed_everything"],
            "validation": best and {"accuracy": best[0], "epoch": 1 - best[2]},
            "data": {
                "dataset": config["data"]["dataset"],
                "md5": data.in_memory.fingerprint(),
                "train": len(data.in_memory.train_labels) - data.val_size,
                "val": data.val_size,
            },
            "settings": [
                {**setting, "value": config[section][name]}
                for setting, (section, _, name) in zip(settings, sections, strict=True)
            ],
            "versions": versions,
        },
    }


CURVES = ("train/loss_step", "train/loss", "val/loss", "train/acc", "val/acc", "lr")


def trained_epochs(run: Path) -> float:
    """What the file that marks a run as finished says, or else how many epochs have a training loss."""
    mark = run / "finished"
    if mark.exists() and (said := mark.read_text(encoding="utf-8").strip()):
        return float(said.split()[0])  # the images of each validation follow
    return max((int(row["epoch"]) + 1 for row in metric_rows(run, "train/loss")), default=0)


def metric_rows(run: Path, column: str) -> list[dict[str, str]]:
    """The rows of `metrics.csv` that have a value in a column."""
    with run.joinpath("metrics.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row.get(column)]


def curve_points(run: Path, column: str) -> list[list[float]]:
    """A curve as [step from 1, value], neighbors averaged so that at most POINTS remain."""
    rows = [(int(row["step"]) + 1, float(row[column])) for row in metric_rows(run, column)]
    width = max(1, math.ceil(len(rows) / POINTS))
    parts = [rows[start : start + width] for start in range(0, len(rows), width)]
    return [[statistics.fmean(values) for values in zip(*part, strict=True)] for part in parts]


def read_predictions(run: Path) -> tuple[list[int], list[int], list[int], NDArray[np.float64]]:
    """Indices, labels, predicted classes and probabilities (N, C) from `predictions.csv`."""
    names, *rows = prediction_rows(run)
    last = sum(name.startswith("prob_") for name in names) + 3
    return (*([int(row[n]) for row in rows] for n in range(3)), np.array([row[3:last] for row in rows], float))  # type: ignore[return-value]


def prediction_rows(run: Path) -> list[list[str]]:
    """The rows of `predictions.csv`, the header first."""
    with run.joinpath("predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def file_names(names: list[str], *rows: list[str]) -> list[str]:
    """The column `file`, which only datasets of picture files have."""
    return [row[names.index("file")] for row in rows] if "file" in names else []


def wilson(right: int, total: int) -> dict[str, Any]:
    """A fraction with SciPy's Wilson interval."""
    interval = stats.binomtest(right, total).proportion_ci(method="wilson")
    return {"images": total, "right": right, "accuracy": right / total, "low": interval.low, "high": interval.high}


def tempered(probs: NDArray[np.float64], temperature: float | None) -> NDArray[np.float64]:
    """Probabilities after temperature scaling: softmax(log p / T)."""
    with np.errstate(divide="ignore"):
        return np.asarray(special.softmax(np.log(probs) / (temperature or 1.0), axis=1))


def expected_test(
    indices: list[int],
    labels: list[int],
    predicted: list[int],
    probs: NDArray[np.float64],
    network: "Network",
    images: Any,
    names: Any,
) -> dict[str, Any]:
    """The report's section on one run's test."""
    classes = range(probs.shape[1])
    confusion = metrics.confusion_matrix(labels, predicted, labels=classes)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=np.nan
    )
    scaled = tempered(probs, network.temperature)
    right = [label == prediction for label, prediction in zip(labels, predicted, strict=True)]
    wrong = mistakes(indices, labels, predicted, scaled)
    pairs = [
        {"true": true, "predicted": other, "count": int(confusion[true, other])}
        for true in classes
        for other in classes
        if true != other and confusion[true, other]
    ]
    class_rows = []
    for label in classes:
        others = [(int(n), -other) for other, n in enumerate(confusion[label]) if other != label and n]
        times, other = max(others, default=(0, 0))
        scores = {"precision": precision[label], "recall": recall[label], "f1": f1[label]}
        class_rows.append(
            {
                **{name: None if math.isnan(score) else score for name, score in scores.items()},
                "name": names[label],
                "support": int(support[label]),
                "taken_for": -other if times else None,
                "times": times,
            }
        )
    detector = None
    if network.temperature:
        accepted = [outlier <= network.threshold for outlier in network.outliers(images)]
        rejected = len(accepted) - sum(accepted)
        detector = {
            **wilson(sum(r and a for r, a in zip(right, accepted, strict=True)), sum(accepted)),
            "coverage": sum(accepted) / len(accepted),
            "rejected": rejected,
            "rejected_wrong": sum(not r and not a for r, a in zip(right, accepted, strict=True)),
        }
    return {
        **wilson(sum(right), len(right)),
        "wrong": len(right) - sum(right),
        "confusion": confusion.tolist() if len(classes) <= PAIRS else None,
        "confused": sorted(pairs, key=lambda pair: -pair["count"])[:PAIRS],
        "classes": class_rows,
        "calibration": {
            "temperature": network.temperature,
            "before": calibration(probs, labels, right),
            "after": calibration(scaled, labels, right) if network.temperature else None,
        },
        "coverage": coverage(scaled.max(axis=1).tolist(), right),
        "detector": detector,
        "mistakes": wrong,
        "suspects": [one for one in wrong if one["probability"] >= SUSPECT],
    }


def mistakes(indices: list[int], labels: list[int], predicted: list[int], probs: Any) -> list[dict[str, Any]]:
    """Every mistake, the most confident first."""
    wrong = [
        {
            "index": indices[row],
            "true": label,
            "predicted": prediction,
            "probability": float(probs[row, prediction]),
            "probability_of_true": float(probs[row, label]),
        }
        for row, (label, prediction) in enumerate(zip(labels, predicted, strict=True))
        if label != prediction
    ]
    return sorted(wrong, key=lambda one: -one["probability"])


def calibration(probs: NDArray[np.float64], labels: list[int], right: list[bool]) -> dict[str, Any]:
    """NLL, Brier score, expected calibration error, and the bins of the reliability diagram."""
    confidence = probs.max(axis=1)
    edges = [n / BINS for n in range(1, BINS)]
    parts: list[list[int]] = [[] for _ in range(BINS)]
    for row, value in enumerate(confidence):
        parts[bisect.bisect_left(edges, value)].append(row)
    bins, ece = [], 0.0
    for n, part in enumerate(parts):
        mean = statistics.fmean(confidence[part]) if part else None
        fraction = statistics.fmean(right[row] for row in part) if part else None
        bins.append(
            {"low": n / BINS, "high": (n + 1) / BINS, "count": len(part), "confidence": mean, "accuracy": fraction}
        )
        if mean is not None and fraction is not None:
            ece += len(part) / len(labels) * abs(mean - fraction)
    one_hot = np.zeros_like(probs)
    one_hot[np.arange(len(labels)), labels] = 1
    return {
        "nll": -statistics.fmean(math.log(max(probs[row, label], 1e-45)) for row, label in enumerate(labels)),
        "brier": float(np.square(probs - one_hot).sum() / len(labels)),
        "ece": ece,
        "bins": bins,
    }


def coverage(confidence: list[float], right: list[bool]) -> dict[str, Any]:
    """Accuracy on the most confident fractions of the images: the table's rows and the curve."""
    order = sorted(range(len(right)), key=lambda row: -confidence[row])

    def accuracy(count: int) -> float:
        return sum(right[row] for row in order[:count]) / count

    rows = []
    for part, percent in ((1, 1000), (0.995, 995), (0.99, 990), (0.98, 980), (0.95, 950), (0.9, 900)):
        count = math.ceil(len(right) * percent / 1000)
        wrong = count - sum(right[row] for row in order[:count])
        least = confidence[order[count - 1]]
        rows.append({"coverage": part, "images": count, "wrong": wrong, "accuracy": accuracy(count), "least": least})
    counts = sorted({max(1, round(len(right) * part / POINTS)) for part in range(POINTS // 2, POINTS + 1)})
    return {"rows": rows, "curve": [[count / len(right), accuracy(count)] for count in counts]}


def expected_group(name: str, runs: list[Path], tests: list[Any], networks: list["Network"]) -> dict[str, Any]:
    """The report's section on several seeds."""
    labels = tests[0][1]
    scores = [metrics.accuracy_score(labels, test[2]) for test in tests]
    n, mean = len(scores), statistics.fmean(scores)
    sd = statistics.stdev(scores) if n > 1 else None
    low, high = stats.t.interval(0.95, n - 1, mean, sd / n**0.5) if sd else (None, None)
    average = np.mean([test[3] for test in tests], axis=0)
    scaled = [tempered(test[3], network.temperature) for test, network in zip(tests, networks, strict=True)]
    agreed = {tests[0][0][row] for row in range(len(labels)) if len({test[2][row] for test in tests}) == 1}
    return {
        "n": n,
        "mean": mean,
        "sd": sd,
        "low": low if low is None else max(low, 0.0),
        "high": high if high is None else min(high, 1.0),
        "ensemble": metrics.accuracy_score(labels, average.argmax(axis=1)),
        "runs": [
            {
                "run": f"{name}/{run.name}",
                **wilson(sum(a == b for a, b in zip(labels, test[2], strict=True)), len(labels)),
            }
            for run, test in zip(runs, tests, strict=True)
        ],
        "suspects": [
            one for one in mistakes(tests[0][0], labels, tests[0][2], np.mean(scaled, axis=0)) if one["index"] in agreed
        ],
    }


class Network:
    """The network and the outlier detector of a run's checkpoint, from the bare weights."""

    def __init__(self, run: Path) -> None:
        paths = [run / "checkpoints" / name for name in ("best.ckpt", "last.ckpt", "previous.ckpt")]
        content = torch.load(next(path for path in paths if path.exists()), weights_only=True)
        weights = content["state_dict"]
        prefix = "ema." if any(name.startswith("ema.") for name in weights) else "network."
        self.weights = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        self.metadata, self.steps = content["mnist_lit"], content["global_step"]
        self.config = yaml.safe_load(self.metadata["config"])
        fitted = self.metadata.get("calibration")
        self.threshold = fitted["threshold"] if fitted else 1.0
        self.state = fitted["state"] if fitted else {}
        self.temperature = float(self.state["temperature"]) if fitted else None

    @torch.inference_mode()
    def __call__(self, images: NDArray[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 (N, 28, 28) → log-probabilities (N, C) and what the detector sees (N, 1280 + C)."""
        w = self.weights
        log_probs, features = [], []
        for start in range(0, len(images), 250):
            x = (torch.from_numpy(images[start : start + 250])[:, None].float() / 255 - 0.1307) / 0.3081
            for number in range(1, 5):
                x = F.relu(F.conv2d(x, w[f"conv{number}.weight"], w[f"conv{number}.bias"]))
                x = F.max_pool2d(x, 2) if number % 2 == 0 else x
            means, maxima = x.mean(dim=(2, 3)), F.max_pool2d(x, 2).flatten(1)
            x = F.relu(F.linear(x.flatten(1), w["fc1.weight"], w["fc1.bias"]))
            log_probs.append(F.linear(x, w["fc2.weight"], w["fc2.bias"]).log_softmax(dim=1))
            features.append(torch.cat((means, log_probs[-1].sort(dim=1).values, maxima), dim=1))
        return torch.cat(log_probs), torch.cat(features)

    def outliers(self, images: NDArray[Any]) -> list[float]:
        """The detector's score of each image, in [0, 1]."""
        x, s = self(images)[1], self.state
        x = F.relu(F.linear(x, s["detector.0.weight"], s["detector.0.bias"]))
        return torch.sigmoid(F.linear(x, s["detector.2.weight"], s["detector.2.bias"])[:, 0] - s["offset"]).tolist()


# The project's keyed random numbers, written out again. SplitMix64 (Steele, Lea and Flood 2014) is a counter times an
# odd constant, mixed. Absorbing seed, stream and epoch one by one gives every triple a starting point of its own.
def random_bits(counters: NDArray[np.uint64], epoch: int) -> NDArray[np.uint64]:
    """64 random bits per counter, keyed by (seed 0, STREAM, epoch)."""

    def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    key = np.zeros(1, np.uint64)
    for word in (0, STREAM, epoch):
        key = mix(key + np.uint64(word) + np.uint64(GOLDEN))
    return mix(counters * np.uint64(GOLDEN) + key)


def uniform(rows: NDArray[np.int64], count: int, epoch: int) -> NDArray[np.float64]:
    """`count` numbers in [0, 1) per row: float64 (B, count)."""
    counters = (rows[:, None] * count + np.arange(count)).astype(np.uint64)
    return (random_bits(counters, epoch) >> np.uint64(40)).astype(float) / 2**24


def expected_robustness(
    network: Network, images: NDArray[np.uint8], labels: NDArray[np.int64], count: int
) -> dict[str, Any]:
    """The report's section on changed images."""
    order = random_bits(np.arange(len(images), dtype=np.uint64), 0).astype(np.int64).argsort(kind="stable")
    chosen = np.sort(order[:count])
    images, labels = images[chosen], labels[chosen]
    pixels = images.astype(float)
    directions = (uniform(chosen, 1, 0)[:, 0] * 4).astype(int)
    steps = np.array([(0, -1), (0, 1), (-1, 0), (1, 0)])[directions]  # (B, 2), row and column: left, right, up, down
    draws = uniform(chosen, 2 * 784, 1).reshape(len(chosen), 2, 28, 28)
    noise = np.sqrt(-2 * np.log1p(-draws[:, 0])) * np.cos(2 * np.pi * draws[:, 1])
    edge: dict[str, Any] = {"order": 1, "mode": "grid-constant"}

    def zoom(image: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
        return np.asarray(ndimage.affine_transform(image, [1 / factor] * 2, 13.5 * (1 - 1 / factor), **edge))

    def change(kind: str, amount: float) -> list[NDArray[np.float64]]:
        if kind == "rotation":
            return [ndimage.rotate(image, -amount, reshape=False, **edge) for image in pixels]
        if kind == "shift":
            return [ndimage.shift(image, amount * step, **edge) for image, step in zip(pixels, steps, strict=True)]
        if kind == "scale":
            return [zoom(image, amount) for image in pixels]
        if kind == "noise":
            return list(pixels + 255 * amount * noise)
        if kind == "blur":
            return [ndimage.gaussian_filter(image, amount, mode="constant", truncate=4) for image in pixels]
        return list(pixels * amount)  # contrast

    def score(changed: Any) -> dict[str, Any]:
        rounded = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
        return wilson(int((network(rounded)[0].argmax(dim=1).numpy() == labels).sum()), len(labels))

    changes = {
        kind: {
            "points": [
                {"amount": amount, **score(images if amount == neutral else np.stack(change(kind, amount)))}
                for amount in amounts
            ]
        }
        for kind, (amounts, neutral) in AMOUNTS.items()
    }
    return {**score(images), "changes": changes}


AMOUNTS = {  # kind of change: its amounts, and the one that changes nothing
    "rotation": ((-60, -45, -30, -15, 0, 15, 30, 45, 60), 0),
    "shift": ((0, 1, 2, 3, 4, 5, 6), 0),
    "scale": ((0.5, 0.6, 0.75, 0.9, 1, 1.1, 1.25, 1.4, 1.5), 1),
    "noise": ((0, 0.1, 0.2, 0.3, 0.4, 0.5), 0),
    "blur": ((0, 0.5, 1, 1.5, 2, 2.5), 0),
    "contrast": ((1, 0.8, 0.6, 0.4, 0.2, 0.1), 1),
}

if __name__ == "__main__":
    sys.exit(main())
