"""Every number of a run's report, computed again by other means, and compared.

    python benchmarks/report_check.py lightning_logs/version_0

Makes the report twice, as a page and as JSON, and recomputes what they say from `predictions.csv`, `metrics.csv`, the
checkpoint's weights and the test images with NumPy, SciPy, scikit-learn and a network written out here; of the project
only the reading of the dataset is used. Robustness is measured with `scipy.ndimage`, where a pixel may round otherwise:
there a count may differ by 0.3 % of the images. Left out is what is no number: dates, commands, the configuration.
Prints a table and ends with 1 if anything differs.
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

CLOSE = 2e-6  # relative; probabilities in the file have nine digits
ROUNDS = 0.003  # of the images, where pixels may round differently
BINS, SUSPECT, POINTS, PAIRS = 15, 0.9, 200, 30
WORDS = 2**64
GOLDEN = 0x9E3779B97F4A7C15
STREAM = 7  # of the random numbers that the robustness goes by


def main() -> int:
    """Compare; returns 1 where a number differs or is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run, or of a group")
    parser.add_argument("--data_dir", help="the folder of the dataset's files (default: the run's)")
    parser.add_argument("--images", type=int, default=2000, help="for robustness (default: 2000)")
    parser.add_argument("--all", action="store_true", help="print a row for each number, not for each kind of number")
    options = parser.parse_args()
    place = ["--data_dir", options.data_dir] if options.data_dir else []
    command = [sys.executable, "-m", "mnist_lit", "report", str(options.run), "--images", str(options.images), *place]
    said = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        subprocess.run([*command, "--output", str(page)], stdout=subprocess.DEVNULL, check=True)
        shown = Shown(page.read_text(encoding="utf-8")).found
    for words in ("began", "commands", "config"):
        del said["origin"][words]
    wanted = dict(leaves(expected(options.run, options.data_dir, options.images, said["origin"]["settings"])))
    images = wanted["robustness.images"]
    rows = [(path, value, wanted.get(path, "missing")) for path, value in leaves(said)]
    rows += [(path, "missing", value) for path, value in wanted.items() if path not in dict(leaves(said))]
    wrong = [row for row in rows if not close(*row, images)]
    kinds: dict[str, list[tuple[str, Any, Any]]] = {}
    for row in rows:
        kinds.setdefault(row[0] if options.all else re.sub(r"\.\d+(?=\.|$)", ".*", row[0]), []).append(row)
    print(f"{'number':<58}{'how many':>9}{'largest difference':>20}   for example: report, recomputed")
    for kind, members in kinds.items():
        most = max((difference(value, other) for _, value, other in members), default=0.0)
        print(f"{kind:<58}{len(members):>9,}{most:>20.2g}   {members[0][1]}, {members[0][2]}")
    classes = said["classes"]
    for path, text in shown:
        if not reads(text, wanted.get(path, "missing"), classes, path, images):
            wrong.append((f"page: {path}", text, wanted.get(path, "missing")))
    print(f"\n{len(rows):,} numbers and names in the JSON, {len(shown):,} on the page, {len(wrong):,} of them wrong")
    for row in wrong:
        print("WRONG", *row)
    return int(bool(wrong))


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number, name and None of a tree, with its path."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if inner is None:
        yield path, tree
    else:
        for key, value in inner:
            yield from leaves(value, f"{path}.{key}" if path else str(key))


def difference(value: Any, other: Any) -> float:
    """Of two numbers; infinite where one is none."""
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (value, other))
    return abs(value - other) if numbers else 0.0 if value == other else math.inf


def close(path: str, value: Any, other: Any, images: int) -> bool:
    """Whether a number is what it should be."""
    if path.startswith("robustness.") and path.rpartition(".")[2] in ("right", "accuracy", "low", "high"):
        return difference(value, other) <= ROUNDS * (images if path.endswith(".right") else 1.5)
    return difference(value, other) <= CLOSE * max(1e-3, abs(other) if isinstance(other, int | float) else 1)


def reads(text: str, other: Any, classes: list[str], path: str, images: int) -> bool:
    """Whether what stands on the page is a number, rounded to the digits that are shown, or a class's name."""
    if other is None or text == "–":
        return other is None and text == "–"
    if path.rpartition(".")[2] in ("true", "predicted", "taken_for"):
        return isinstance(other, int) and text == classes[other]
    if isinstance(other, str):
        return False
    plain = text.replace(",", "").replace("−", "-")
    in_points = plain.endswith(" %") or path == "group.sd"
    number, digits = float(plain.removesuffix(" %")), len(plain.removesuffix(" %").partition(".")[2])
    room = 0.5 * 10.0**-digits * (1 + 1e-6) if digits or in_points else 0.0
    if path.startswith("robustness.") and not path.endswith(("amount", "images")):
        room += ROUNDS * (150 if in_points else images)
    return bool(abs(number - other * (100 if in_points else 1)) <= room + CLOSE)


class Shown(HTMLParser):
    """The numbers of a page: what each `<data data-key>` shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
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
            self.found.append((self._key, self._text))
            self._key = None


def expected(folder: Path, data_dir: str | None, count: int, settings: list[dict[str, Any]]) -> dict[str, Any]:
    """What the report should say. settings: those that it names, whose values are looked up."""
    members = sorted(folder.glob("seed_*"), key=lambda run: int(run.name[5:]))
    runs = members or [folder]
    nets = [Net(run) for run in runs]
    config = nets[0].config
    data = MNISTDataModule(**config["data"] | ({"data_dir": data_dir} if data_dir else {}))
    data.setup()
    assert data.digits
    images, labels = data.digits.test_images.numpy(), data.digits.test_labels.numpy()
    tests = [read(run) for run in runs]
    name = folder.resolve().name
    first = f"{name}/{runs[0].name}" if members else name
    scores = [(float(row["val/acc"]), -float(row["val/loss"]), -int(row["epoch"])) for row in table(runs[0], "val/acc")]
    best = max(scores, default=None)
    told = nets[0].told
    sections = [setting["name"].partition(".") for setting in settings]
    return {
        "mnist_lit": told["versions"]["mnist-lit"],
        "name": name,
        "run": first,
        "classes": list(data.digits.classes),
        "files": told_files(*tested(runs[0])),
        "test": single(*tests[0], nets[0], images, data.digits.classes),
        "group": group(name, runs, tests, nets) if members else None,
        "curves": {curve: points(runs[0], curve) for curve in CURVES},
        "robustness": robustness(nets[0], images, labels, count),
        "origin": {
            "steps": nets[0].steps,
            "epochs": max((int(row["epoch"]) + 1 for row in table(runs[0], "train/loss")), default=0),
            "seed": config["seed_everything"],
            "validation": best and {"accuracy": best[0], "epoch": 1 - best[2]},
            "data": {
                "dataset": config["data"]["dataset"],
                "md5": data.digits.fingerprint(),
                "train": len(data.digits.train_labels) - data.val_size,
                "val": data.val_size,
            },
            "settings": [
                {**setting, "value": config[section][name]}
                for setting, (section, _, name) in zip(settings, sections, strict=True)
            ],
            "versions": told["versions"],
        },
    }


CURVES = ("train/loss_step", "train/loss", "val/loss", "train/acc", "val/acc", "lr")


def table(run: Path, column: str) -> list[dict[str, str]]:
    """The rows of `metrics.csv` that have a value there."""
    with run.joinpath("metrics.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row.get(column)]


def points(run: Path, column: str) -> list[list[float]]:
    """A curve, in parts of as many neighbours as bring it below `POINTS`."""
    rows = [(int(row["step"]) + 1, float(row[column])) for row in table(run, column)]
    width = max(1, math.ceil(len(rows) / POINTS))
    parts = [rows[start : start + width] for start in range(0, len(rows), width)]
    return [[statistics.fmean(column) for column in zip(*part, strict=True)] for part in parts]


def read(run: Path) -> tuple[list[int], list[int], list[int], NDArray[np.float64]]:
    """indices, labels, predicted, probabilities of `predictions.csv`."""
    names, *rows = tested(run)
    last = sum(name.startswith("prob_") for name in names) + 3
    return (*([int(row[n]) for row in rows] for n in range(3)), np.array([row[3:last] for row in rows], float))  # type: ignore[return-value]


def tested(run: Path) -> list[list[str]]:
    """The rows of `predictions.csv`, the first the columns' names."""
    with run.joinpath("predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def told_files(names: list[str], *rows: list[str]) -> list[str]:
    """The column `file`, which pictures of one's own have."""
    return [row[names.index("file")] for row in rows] if "file" in names else []


def wilson(right: int, total: int) -> dict[str, Any]:
    """A share with SciPy's interval."""
    interval = stats.binomtest(right, total).proportion_ci(method="wilson")
    return {"images": total, "right": right, "accuracy": right / total, "low": interval.low, "high": interval.high}


def tempered(probs: NDArray[np.float64], temperature: float | None) -> NDArray[np.float64]:
    """Softmax of the log-probabilities over the temperature."""
    with np.errstate(divide="ignore"):
        return np.asarray(special.softmax(np.log(probs) / (temperature or 1.0), axis=1))


def single(
    indices: list[int],
    labels: list[int],
    predicted: list[int],
    probs: NDArray[np.float64],
    net: "Net",
    images: Any,
    names: Any,
) -> dict[str, Any]:
    """What the report should say of one run's test."""
    classes = range(probs.shape[1])
    confusion = metrics.confusion_matrix(labels, predicted, labels=classes)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=np.nan
    )
    after = tempered(probs, net.temperature)
    right = [label == said for label, said in zip(labels, predicted, strict=True)]
    wrong = mistakes(indices, labels, predicted, after)
    pairs = [
        {"true": true, "predicted": said, "count": int(confusion[true, said])}
        for true in classes
        for said in classes
        if true != said and confusion[true, said]
    ]
    told = []
    for label in classes:
        others = [(int(n), -other) for other, n in enumerate(confusion[label]) if other != label and n]
        times, other = max(others, default=(0, 0))
        values = (precision[label], recall[label], f1[label])
        told.append(
            {
                **{
                    key: None if math.isnan(v) else v
                    for key, v in zip(("precision", "recall", "f1"), values, strict=True)
                },
                "name": names[label],
                "support": int(support[label]),
                "taken_for": -other if times else None,
                "times": times,
            }
        )
    detector = None
    if net.temperature:
        kept = [outlier <= net.threshold for outlier in net.outliers(images)]
        shares = wilson(sum(r and k for r, k in zip(right, kept, strict=True)), sum(kept))
        missed = sum(not r and not k for r, k in zip(right, kept, strict=True))
        rejected = len(kept) - sum(kept)
        detector = {**shares, "coverage": sum(kept) / len(kept), "rejected": rejected, "rejected_wrong": missed}
    return {
        **wilson(sum(right), len(right)),
        "wrong": len(right) - sum(right),
        "confusion": confusion.tolist() if len(classes) <= PAIRS else None,
        "confused": sorted(pairs, key=lambda pair: -pair["count"])[:PAIRS],
        "classes": told,
        "calibration": {
            "temperature": net.temperature,
            "before": calibration(probs, labels, right),
            "after": calibration(after, labels, right) if net.temperature else None,
        },
        "coverage": coverage(after.max(axis=1).tolist(), right),
        "detector": detector,
        "mistakes": wrong,
        "suspects": [one for one in wrong if one["probability"] >= SUSPECT],
    }


def mistakes(indices: list[int], labels: list[int], predicted: list[int], probs: Any) -> list[dict[str, Any]]:
    """Every mistake, the surest first."""
    found = [
        {
            "index": indices[row],
            "true": label,
            "predicted": said,
            "probability": float(probs[row, said]),
            "probability_of_true": float(probs[row, label]),
        }
        for row, (label, said) in enumerate(zip(labels, predicted, strict=True))
        if label != said
    ]
    return sorted(found, key=lambda one: -one["probability"])


def calibration(probs: NDArray[np.float64], labels: list[int], right: list[bool]) -> dict[str, Any]:
    """Scores and bins."""
    confidence = probs.max(axis=1)
    edges = [n / BINS for n in range(1, BINS)]
    parts: list[list[int]] = [[] for _ in range(BINS)]
    for row, value in enumerate(confidence):
        parts[bisect.bisect_left(edges, value)].append(row)
    bins, ece = [], 0.0
    for n, part in enumerate(parts):
        sure = statistics.fmean(confidence[part]) if part else None
        share = statistics.fmean(right[row] for row in part) if part else None
        bins.append(
            {"low": n / BINS, "high": (n + 1) / BINS, "count": len(part), "confidence": sure, "accuracy": share}
        )
        if sure is not None and share is not None:
            ece += len(part) / len(labels) * abs(sure - share)
    one_hot = np.zeros_like(probs)
    one_hot[np.arange(len(labels)), labels] = 1
    return {
        "nll": -statistics.fmean(math.log(max(probs[row, label], 1e-45)) for row, label in enumerate(labels)),
        "brier": float(np.square(probs - one_hot).sum() / len(labels)),
        "ece": ece,
        "bins": bins,
    }


def coverage(confidence: list[float], right: list[bool]) -> dict[str, Any]:
    """Rows and curve."""
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


def group(name: str, runs: list[Path], tests: list[Any], nets: list["Net"]) -> dict[str, Any]:
    """What the report should say of several seeds."""
    labels = tests[0][1]
    scores = [metrics.accuracy_score(labels, test[2]) for test in tests]
    n, mean = len(scores), statistics.fmean(scores)
    sd = statistics.stdev(scores) if n > 1 else None
    low, high = stats.t.interval(0.95, n - 1, mean, sd / n**0.5) if sd else (mean if n > 1 else None,) * 2
    average = np.mean([test[3] for test in tests], axis=0)
    probs = np.mean([tempered(test[3], net.temperature) for test, net in zip(tests, nets, strict=True)], axis=0)
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
        "suspects": [one for one in mistakes(tests[0][0], labels, tests[0][2], probs) if one["index"] in agreed],
    }


class Net:
    """The network of a run's checkpoint and its detector, from the bare weights."""

    def __init__(self, run: Path) -> None:
        paths = [run / "checkpoints" / name for name in ("best.ckpt", "last.ckpt", "previous.ckpt")]
        content = torch.load(next(path for path in paths if path.exists()), weights_only=True)
        weights = content["state_dict"]
        start = "ema." if any(name.startswith("ema.") for name in weights) else "network."
        self.w = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
        self.told, self.steps = content["mnist_lit"], content["global_step"]
        self.config = yaml.safe_load(self.told["config"])
        fitted = self.told.get("calibration")
        self.threshold = fitted["threshold"] if fitted else 1.0
        self.state = fitted["state"] if fitted else {}
        self.temperature = float(self.state["temperature"]) if fitted else None

    @torch.inference_mode()
    def __call__(self, images: NDArray[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and the convolutions' features averaged over the image."""
        logs, features = [], []
        for start in range(0, len(images), 250):
            x = (torch.from_numpy(images[start : start + 250])[:, None].float() / 255 - 0.1307) / 0.3081
            for number in range(1, 5):
                x = F.relu(F.conv2d(x, self.w[f"conv{number}.weight"], self.w[f"conv{number}.bias"]))
                x = F.max_pool2d(x, 2) if number % 2 == 0 else x
            features.append(x.mean(dim=(2, 3)))
            x = F.relu(F.linear(x.flatten(1), self.w["fc1.weight"], self.w["fc1.bias"]))
            logs.append(F.linear(x, self.w["fc2.weight"], self.w["fc2.bias"]).log_softmax(dim=1))
        return torch.cat(logs), torch.cat(features)

    def outliers(self, images: NDArray[Any]) -> list[float]:
        """The detector's scores."""
        logs, features = self(images)
        x, s = torch.cat((features, logs.sort(dim=1).values), dim=1), self.state
        x = F.relu(F.linear(x, s["detector.0.weight"], s["detector.0.bias"]))
        return torch.sigmoid(F.linear(x, s["detector.2.weight"], s["detector.2.bias"])[:, 0] - s["offset"]).tolist()


def bits(counters: NDArray[np.uint64], epoch: int) -> NDArray[np.uint64]:
    """SplitMix64 at the place of (seed 0, the stream, epoch)."""

    def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    start = np.zeros(1, np.uint64)
    for word in (0, STREAM, epoch):
        start = mix(start + np.uint64(word) + np.uint64(GOLDEN))
    return mix(counters * np.uint64(GOLDEN) + start)


def uniform(rows: NDArray[np.int64], count: int, epoch: int) -> NDArray[np.float64]:
    """`count` numbers in [0, 1) for each row."""
    counters = (rows[:, None] * count + np.arange(count)).astype(np.uint64)
    return (bits(counters, epoch) >> np.uint64(40)).astype(float) / 2**24


def robustness(net: Net, images: NDArray[np.uint8], labels: NDArray[np.int64], count: int) -> dict[str, Any]:
    """What the report should say of changed images."""
    order = bits(np.arange(len(images), dtype=np.uint64), 0).astype(np.int64).argsort(kind="stable")
    chosen = np.sort(order[:count])
    images, labels = images[chosen], labels[chosen]
    ways = (uniform(chosen, 1, 0)[:, 0] * 4).astype(int)
    steps = np.array([(0, -1), (0, 1), (-1, 0), (1, 0)])[ways]  # rows, columns: left, right, up, down
    draws = uniform(chosen, 2 * 784, 1).reshape(len(chosen), 2, 28, 28)
    noise = np.sqrt(-2 * np.log1p(-draws[:, 0])) * np.cos(2 * np.pi * draws[:, 1])
    edge: dict[str, Any] = {"order": 1, "mode": "grid-constant"}

    def zoomed(image: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
        return np.asarray(ndimage.affine_transform(image, [1 / factor] * 2, 13.5 * (1 - 1 / factor), **edge))

    def changed(kind: str, amount: float) -> list[NDArray[np.float64]]:
        whole = images.astype(float)
        if kind == "rotation":
            return [ndimage.rotate(image, -amount, reshape=False, **edge) for image in whole]
        if kind == "shift":
            return [ndimage.shift(image, amount * step, **edge) for image, step in zip(whole, steps, strict=True)]
        if kind == "scale":
            return [zoomed(image, amount) for image in whole]
        if kind == "noise":
            return list(whole + 255 * amount * noise)
        if kind == "blur":
            return [ndimage.gaussian_filter(image, amount, mode="constant", truncate=4) for image in whole]
        return list(whole * amount)

    def right(pictures: Any) -> dict[str, Any]:
        pixels = np.clip(np.rint(pictures), 0, 255).astype(np.uint8)
        return wilson(int((net(pixels)[0].argmax(dim=1).numpy() == labels).sum()), len(labels))

    told: dict[str, Any] = {}
    for kind, (unit, amounts, nothing) in AMOUNTS.items():
        told[kind] = {"unit": unit, "points": []}
        for amount in amounts:
            pictures = images if amount == nothing else np.stack(changed(kind, amount))
            told[kind]["points"].append({"amount": amount, **right(pictures)})
    return {**right(images), "changes": told}


AMOUNTS = {
    "rotation": ("degrees, clockwise", (-60, -45, -30, -15, 0, 15, 30, 45, 60), 0),
    "shift": ("pixels", (0, 1, 2, 3, 4, 5, 6), 0),
    "scale": ("times the size", (0.5, 0.6, 0.75, 0.9, 1, 1.1, 1.25, 1.4, 1.5), 1),
    "noise": ("standard deviation, of full ink", (0, 0.1, 0.2, 0.3, 0.4, 0.5), 0),
    "blur": ("standard deviation in pixels", (0, 0.5, 1, 1.5, 2, 2.5), 0),
    "contrast": ("of the ink's strength", (1, 0.8, 0.6, 0.4, 0.2, 0.1), 1),
}

if __name__ == "__main__":
    sys.exit(main())
