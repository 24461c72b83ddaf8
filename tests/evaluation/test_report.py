"""A report says what the run's own files say, loads nothing, and survives whatever classes are called."""

import contextlib
import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torchmetrics.functional.classification import multiclass_calibration_error

from mnist_lit.cli.main import main
from mnist_lit.data.keyed_random import CORRUPTION, uniform
from mnist_lit.evaluation.calibration import load_calibrated
from mnist_lit.evaluation.figures import tiles
from mnist_lit.evaluation.report.activations import LayerActivations, first_filters, layer_activations
from mnist_lit.evaluation.report.charts import Chart, Line
from mnist_lit.evaluation.report.page import render_page
from mnist_lit.evaluation.report.robustness import CORRUPTIONS
from mnist_lit.evaluation.report.scores import group_scores, run_scores, training_curves
from mnist_lit.model import standardize
from mnist_lit.runs.folders import best_checkpoint
from mnist_lit.runs.results import Predictions, read_predictions
from shapes import shapes

Cli = Callable[..., tuple[int, str, str]]
IMAGES = ("--images", "40")
ROOT = Path(__file__).parents[2]


class Made(NamedTuple):
    """A report on a run that was not tested before."""

    run: Path
    html: str
    said: str
    numbers: dict[str, Any]


@pytest.fixture(scope="module")
def made(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The report of the trained run, and the same as JSON."""
    run = tmp_path_factory.mktemp("report") / "lightning_logs" / "version_0"
    shutil.copytree(trained, run)
    run.joinpath("predictions.csv").unlink(missing_ok=True)
    said, out = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(out):
        assert main(["report", str(run), *IMAGES]) == 0
        assert main(["report", str(run), *IMAGES, "--json"]) == 0
    html = run.joinpath("report.html").read_text(encoding="utf-8")
    return Made(run, html, said.getvalue(), json.loads(out.getvalue().splitlines()[-1]))


@pytest.fixture(scope="module")
def predictions(made: Made) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """labels, predicted and probabilities of the run, read anew."""
    with made.run.joinpath("predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    table = np.array(rows, float)
    return table[:, 1].astype(int), table[:, 2].astype(int), table[:, 3:]


def test_a_run_that_was_not_tested_is_tested_first_and_once(made: Made) -> None:
    assert made.said == f"report: testing {made.run} first\n"
    assert read_predictions(made.run)


def test_counts_are_those_of_the_predictions(made: Made, predictions: Any) -> None:
    labels, predicted, _ = predictions
    test = made.numbers["test"]
    counts = [[int(((labels == a) & (predicted == b)).sum()) for b in range(10)] for a in range(10)]
    assert test["confusion"] == counts == confusion_matrix(labels, predicted).tolist()
    assert (test["images"], test["right"], test["wrong"]) == (360, (labels == predicted).sum(), len(test["mistakes"]))
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted)
    for name, wanted in zip(("precision", "recall", "f1", "support"), (precision, recall, f1, support), strict=True):
        assert [one[name] for one in test["classes"]] == pytest.approx(wanted.tolist()), name
    assert sum(pair["count"] for pair in test["confused"]) == test["wrong"]


def test_calibration_is_what_torch_and_torchmetrics_compute(made: Made, predictions: Any) -> None:
    labels, probs = torch.tensor(predictions[0]), torch.tensor(predictions[2])
    found = made.numbers["test"]["calibration"]
    temperature = load_calibrated(best_checkpoint(made.run) or "").network.temperature
    assert found["temperature"] == pytest.approx(float(temperature))
    for when, shares in (("before", probs), ("after", F.softmax(probs.log() / temperature, dim=1))):
        below_one = shares.clamp(max=1 - 1e-9)  # torchmetrics counts 1 in a bin of its own
        ece = multiclass_calibration_error(below_one, labels, 10, n_bins=15)
        assert found[when]["ece"] == pytest.approx(float(ece), abs=1e-6)
        assert found[when]["nll"] == pytest.approx(float(F.nll_loss(shares.log(), labels)))
        assert found[when]["brier"] == pytest.approx(float(((shares - F.one_hot(labels, 10)) ** 2).sum(1).mean()))
        assert sum(one["count"] for one in found[when]["bins"]) == 360


def test_the_detector_answers_as_the_reader_does(made: Made, digits_data: Any, predictions: Any) -> None:
    network, _, threshold, _ = load_calibrated(best_checkpoint(made.run) or "")
    with torch.inference_mode():
        kept = (network(digits_data.digits.test_images)[1] <= threshold).numpy()
    found = made.numbers["test"]["detector"]
    assert (found["images"], found["rejected"]) == (kept.sum(), (~kept).sum())
    assert found["right"] == (kept & (predictions[0] == predictions[1])).sum()


def scored(labels: list[int], confidence: list[float], wrong: set[int]) -> Predictions:
    """Two classes: what is said with such confidence, of some images wrongly."""
    predicted = [1 - label if row in wrong else label for row, label in enumerate(labels)]
    probs = [[c, 1 - c] if said == 0 else [1 - c, c] for said, c in zip(predicted, confidence, strict=True)]
    return Predictions(list(range(100, 100 + len(labels))), labels, predicted, probs, ["a", "b"])


def test_a_small_case_by_hand() -> None:
    test = scored([0, 0, 1, 1], [0.95, 0.55, 0.75, 0.92], {1, 3})
    found = run_scores(test, None, np.array([False, True, False, True]))
    assert found["confusion"] == [[1, 1], [1, 1]]
    assert found["coverage"]["rows"][0] == {"coverage": 1, "images": 4, "wrong": 2, "accuracy": 0.5, "least": 0.55}
    assert found["coverage"]["curve"] == [[0.5, 0.5], [0.75, 2 / 3], [1.0, 0.5]]
    told = [(one["index"], one["predicted"], one["probability"]) for one in found["mistakes"]]
    assert told == [(103, 0, 0.92), (101, 1, 0.55)]
    assert found["suspects"] == found["mistakes"][:1]
    assert found["calibration"]["after"] is None
    detector = found["detector"]
    assert (detector["images"], detector["accuracy"], detector["rejected_wrong"]) == (2, 1.0, 2)


def test_seeds_that_agree_against_the_label_are_a_likely_label_error() -> None:
    tests = [scored([0, 0, 1, 1], [0.9, 0.8, 0.7, sure], wrong) for sure, wrong in ((0.6, {0, 1}), (0.8, {0, 3}))]
    found = group_scores(["s/0", "s/1"], tests, [1.0, 1.0])
    assert [(one["index"], one["predicted"]) for one in found["suspects"]] == [(100, 1)]
    assert found["suspects"][0]["probability"] == pytest.approx(0.9)
    assert (found["mean"], found["sd"]) == (0.5, 0.0)
    assert (
        found["ensemble"] == 0.5
    )  # 0 and 3 stay wrong: 0.8 beats 0.6, and of the halves of 1 the right one comes first


def test_a_class_without_images_or_answers_has_no_score() -> None:
    test = Predictions([0], [0], [0], [[1.0, 0.0, 0.0]], ["a", "b", "c"])
    json.dumps(found := run_scores(test, None, None), allow_nan=False)
    assert [one["recall"] for one in found["classes"]] == [1.0, None, None]
    assert found["calibration"]["before"]["nll"] == 0


def test_a_probability_that_underflowed_costs_a_finite_loss() -> None:
    found = run_scores(Predictions([0], [1], [0], [[1.0, 0.0]], ["a", "b"]), 0.5, None)
    assert math.isfinite(found["calibration"]["after"]["nll"])


def test_every_number_on_the_page_is_the_json_s(made: Made) -> None:
    shown = re.findall(r'<data[^>]* data-key="([^"]+)" value="([^"]*)">', made.html)
    assert len(shown) > 400
    for path, value in shown:
        found: Any = made.numbers
        for part in path.split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]
        assert value == ("" if found is None else str(found)), path


def test_what_the_page_shows_are_these_numbers_under_their_names(made: Made) -> None:
    test = made.numbers["test"]
    assert f">{100 * test['accuracy']:.2f} %</data>" in made.html
    head, rows = re.findall(r'<section id="classes">.*?<thead>(.*?)</thead>.*?<tbody>(.*?)</tbody>', made.html, re.S)[0]
    assert re.findall(r">([^<>]+)</th>", head)[1:5] == ["images", "precision", "recall", "F1"]
    for label, row in enumerate(rows.split("</tr>")[:-1]):
        one = test["classes"][label]
        shown = re.findall(r"<td>.*?>([^<>]+)</data>", row)
        assert shown[:4] == [
            str(one["support"]),
            *(f"{100 * one[name]:.2f} %" for name in ("precision", "recall", "f1")),
        ]


def test_the_page_loads_nothing_and_names_no_place(made: Made, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert not re.search(r"https?:|<script|url\(|@import|<iframe", made.html)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', made.html))
    assert "default-src 'none'" in made.html
    for text in (made.html, json.dumps(made.numbers)):
        assert str(tmp_path_factory.getbasetemp()) not in text  # the run was trained with a folder in its options
    assert "mnist-lit fit --config quickstart --trainer.max_epochs 5 --data.val_size 180\n" in made.html
    assert len(made.html.encode()) < 1_000_000


def test_json_is_all_that_is_printed_where_pictures_are_read_first(cli: Cli) -> None:
    shapes()
    fit = ("fit", "--config", "quickstart", "--data.dataset", "folder", "--data.data_dir", "my-shapes")
    assert cli(*fit, "--trainer.max_epochs", "1", "--data.batch_size", "24")[0] == 0
    Path("my-shapes/.mnist-lit.npz").unlink()
    code, out, err = cli("report", "--json", "--images", "3")
    assert code == 0
    assert "reading 102 pictures of my-shapes" in err
    told = json.loads(out)
    assert told["classes"] == ["circle", "square", "triangle"]
    assert "--data.data_dir my-shapes" in told["origin"]["commands"][0]
    assert cli("report", "--images", "3")[0] == 0
    html = Path("lightning_logs/version_0/report.html").read_text(encoding="utf-8")
    shown = re.findall(r'<span class="quiet">(test/[^<]+)</span>', html)
    assert shown[0] == told["files"][told["test"]["mistakes"][0]["index"]]  # one epoch leaves mistakes
    assert Path("my-shapes", shown[0]).is_file()


def test_the_same_run_gives_the_same_bytes(made: Made, cli: Cli) -> None:
    assert cli("report", str(made.run), *IMAGES, "--output", "again.html")[0] == 0
    assert Path("again.html").read_text(encoding="utf-8") == made.html


def test_predictions_of_another_checkpoint_are_not_believed(made: Made, cli: Cli) -> None:
    shutil.copytree(made.run, "lightning_logs/version_0")
    table = Path("lightning_logs/version_0/predictions.csv")
    good = table.read_text()
    head, first, rest = good.split("\n", 2)
    cells = first.split(",")
    cells[3:5] = "0.5", "0.5"
    table.write_text("\n".join((head, ",".join(cells), rest)))
    code, out, err = cli("report", *IMAGES)  # the newest run
    assert (code, "testing" in err) == (0, True)
    assert out.startswith("report: lightning_logs/version_0/report.html, ")
    assert table.read_text() == good


def test_a_group_is_reported_as_one(made: Made, cli: Cli) -> None:
    for seed in (0, 1):
        shutil.copytree(made.run, f"lightning_logs/version_3/seed_{seed}")
    Path("lightning_logs/version_3/group.txt").write_text("mnist-lit fit --config quickstart\n")
    code, out, err = cli("report", "version_3", *IMAGES, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["name"], found["run"], found["group"]["n"], found["group"]["sd"]) == (
        "version_3",
        "version_3/seed_0",
        2,
        0.0,
    )
    assert found["group"]["mean"] == found["test"]["accuracy"]
    assert [one["index"] for one in found["group"]["suspects"]] == [one["index"] for one in found["test"]["mistakes"]]
    assert found["origin"]["commands"][0] == "mnist-lit fit --config quickstart --seeds 0,1"
    assert cli("report", "version_3", *IMAGES)[0] == 0
    assert "version_3/seed_1" in Path("lightning_logs/version_3/report.html").read_text(encoding="utf-8")


HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "x" * 300, "Ω & é", *"56789"]


def drawn(report: dict[str, Any], *, seed: int = 0) -> str:
    """The page of some numbers, with pictures of noise."""
    images = np.random.default_rng(seed).integers(0, 256, (360, 28, 28), np.uint8)
    layer = LayerActivations("conv1", 32, [0, 1], images[:2])
    return render_page(report, images, np.zeros((32, 3, 3, 3), np.uint8), [layer])


def test_hostile_names_are_escaped_everywhere(made: Made) -> None:
    classes = [{**one, "name": name} for one, name in zip(made.numbers["test"]["classes"], HOSTILE, strict=True)]
    report = {**made.numbers, "classes": HOSTILE, "test": {**made.numbers["test"], "classes": classes}}
    html = drawn({**report, "name": HOSTILE[0], "files": HOSTILE * 36})
    assert "<script" not in html
    assert "<img src=x" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 3
    assert "{{ 7 * 7 }}" in html


def test_of_many_classes_the_pairs_that_are_confused_are_listed(made: Made) -> None:
    count = 300
    names = [f"class {n}" for n in range(count)]
    labels = [n % count for n in range(360)]
    predicted = [(label + 1) % count if label == 7 else label for label in labels]
    probs = np.full((360, count), 1e-4)
    probs[np.arange(360), predicted] = 1
    test = run_scores(Predictions(list(range(360)), labels, predicted, probs.tolist(), names), None, None)
    assert test["confusion"] is None
    assert test["confused"] == [{"true": 7, "predicted": 8, "count": 2}]
    html = drawn({**made.numbers, "classes": names, "test": test, "curves": training_curves(Path("no run"))})
    assert 'class="matrix' not in html
    assert "not calibrated" in html
    assert "Learning rate" not in html
    assert len(html.encode()) < 1_000_000


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("version_9",), "no run with a checkpoint, and no group of such, at version_9"),
        ((), "nothing was trained in lightning_logs"),
        (("--images", "0"), "--images: expected 1 or more, got 0"),
        (("--json", "--output", "x.html"), "expected one of them"),
        (("--jsn",), "did you mean json?"),
    ],
)
def test_wrong_input_is_one_line(cli: Cli, args: tuple[str, ...], says: str) -> None:
    code, out, err = cli("report", *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_a_page_that_cannot_be_written_is_one_line(made: Made, cli: Cli) -> None:
    code, _, err = cli("report", str(made.run), *IMAGES, "--output", "no/where.html")
    assert (code, err) == (2, "mnist-lit: cannot write no/where.html: No such file or directory\n")


@pytest.mark.parametrize(
    ("name", "amount", "theirs"),
    [
        ("rotation", 30, lambda image: ndimage.rotate(image, -30, reshape=False, order=1, mode="grid-constant")),
        ("rotation", -45, lambda image: ndimage.rotate(image, 45, reshape=False, order=1, mode="grid-constant")),
        ("scale", 0.5, lambda image: ndimage.affine_transform(image, [2, 2], -13.5, order=1, mode="grid-constant")),
        ("blur", 1.5, lambda image: ndimage.gaussian_filter(image, 1.5, mode="constant", truncate=4)),
        ("contrast", 0.4, lambda image: image * 0.4),
    ],
)
def test_a_change_is_scipy_s(images: torch.Tensor, name: str, amount: float, theirs: Callable[..., Any]) -> None:
    ours = CORRUPTIONS[name].apply(images, torch.arange(len(images)), amount).numpy()
    wanted = np.stack([theirs(image.astype(float)) for image in images.numpy()])
    assert np.abs(ours - wanted).max() <= 1
    assert np.abs(images.numpy() - wanted).max() > 50  # the control


def test_a_shift_goes_all_four_ways(images: torch.Tensor) -> None:
    indices = torch.arange(len(images))
    moved = CORRUPTIONS["shift"].apply(images, indices, 2)
    ways = (uniform(0, 0, indices, 1, stream=CORRUPTION)[:, 0] * 4).long().tolist()
    assert {*ways} == {0, 1, 2, 3}
    for image, found, way in zip(images, moved, ways, strict=True):
        shift = 2 if way % 2 else -2
        wanted = ndimage.shift(image.numpy(), (0, shift) if way < 2 else (shift, 0), order=0)
        assert np.array_equal(found.numpy(), wanted)


def test_noise_is_normal_and_belongs_to_the_image() -> None:
    grey, indices = torch.full((20, 28, 28), 128, dtype=torch.uint8), torch.arange(20)
    noisy = CORRUPTIONS["noise"].apply(grey, indices, 0.1)
    assert float(noisy.float().mean()) == pytest.approx(128, abs=1)
    assert float(noisy.float().std()) == pytest.approx(25.5, rel=0.03)
    assert torch.equal(CORRUPTIONS["noise"].apply(grey[5:6], indices[5:6], 0.1), noisy[5:6])
    assert not torch.equal(noisy[0], noisy[1])


def test_unchanged_images_score_as_the_test_did(made: Made) -> None:
    found = made.numbers["robustness"]
    assert found["images"] == 40
    for name, change in CORRUPTIONS.items():
        points = found["changes"][name]["points"]
        assert [point["amount"] for point in points] == list(change.amounts)
        assert points[change.amounts.index(change.nothing)]["right"] == found["right"]
    assert found["changes"]["noise"]["points"][-1]["right"] < found["right"]


def test_maps_are_what_the_convolutions_give(made: Made, images: torch.Tensor) -> None:
    network = load_calibrated(best_checkpoint(made.run) or "").network.network
    found = layer_activations(network, images[0])
    assert [layer.maps.shape for layer in found] == [(8, 26, 26), (8, 24, 24), (8, 10, 10), (8, 8, 8)]
    seen = network.conv1(standardize(images[:1])).relu()[0]
    strongest = int(seen.amax(dim=(1, 2)).argmax())
    assert found[0].channels[0] == strongest
    wanted = (seen[strongest] / seen.max() * 255).detach().round().numpy()
    assert np.abs(found[0].maps[0] - wanted).max() <= 1
    colours = first_filters(network)
    assert colours.shape == (32, 3, 3, 3)
    positive = network.conv1.weight.detach()[:, 0].numpy() > 0
    assert (colours[..., 0] >= colours[..., 2])[positive].all()  # warm
    assert (colours[..., 2] >= colours[..., 0])[~positive].all()  # cold


def test_tiles_lie_in_rows_with_nothing_between() -> None:
    sheet = tiles(np.full((3, 2, 2, 3), 7, np.uint8), columns=2)
    assert sheet.shape == (5, 5, 4)
    assert sheet[..., 3].tolist()[0] == [255, 255, 0, 255, 255]
    assert sheet[3:, 3:, 3].max() == 0  # there is no fourth


def test_a_chart_puts_values_where_its_ticks_say() -> None:
    chart = Chart("t", "y", [Line("a", "main", [(0, 0.5), (10, 1)])], x_label="x", x_range=(0, 10), y_range=(0, 1))
    assert {text: x for x, text in chart.x_ticks}["10"] == chart.x(10) == 380
    assert {text: y for y, text in chart.y_ticks}["1"] == chart.y(1) == 14
    assert chart.path([(0, 0)]) == "60,216"
    rates = Chart("t", "y", [Line("a", "main", [(0, 2.0), (1, 0.02)])], x_label="x", logarithmic=True)
    places = {text: y for y, text in rates.y_ticks}
    assert places["1"] - rates.y(2.0) == pytest.approx(rates.y(0.05) - rates.y(0.1), abs=0.2)  # both a factor of two


def test_long_curves_are_means_of_neighbours(tmp_path: Path) -> None:
    rows = "\n".join(f"{step},{step / 10}," for step in range(450))
    tmp_path.joinpath("metrics.csv").write_text(f"step,lr,val/acc\n{rows}\n449,,nan\n")
    found = training_curves(tmp_path)
    assert len(found["lr"]) == 150
    assert found["lr"][0] == pytest.approx([2, 0.1])
    assert found["val/acc"] == []


@pytest.mark.slow
def test_an_independent_script_computes_the_same(made: Made) -> None:
    check = [sys.executable, str(ROOT / "benchmarks/report_check.py"), str(made.run), *IMAGES]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, " 0 of them wrong" in done.stdout) == (0, True), done.stdout[-2000:]
