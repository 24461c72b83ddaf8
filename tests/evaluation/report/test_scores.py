"""The report's scores agree with torch, torchmetrics, scikit-learn and cases counted by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torchmetrics.functional.classification import multiclass_calibration_error

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.evaluation.calibration import load_calibrated
from mnist_lit.evaluation.report.scores import apply_temperature, group_scores, run_scores, training_curves
from mnist_lit.runs.folders import best_checkpoint
from mnist_lit.runs.results import Predictions

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def test_counts_are_those_of_the_predictions(numbers: dict[str, Any], predictions: Arrays) -> None:
    labels, predicted, _ = predictions
    test = numbers["test"]
    counts = [[int(((labels == a) & (predicted == b)).sum()) for b in range(10)] for a in range(10)]
    assert test["confusion"] == counts == confusion_matrix(labels, predicted).tolist()
    assert (test["images"], test["right"], test["wrong"]) == (360, (labels == predicted).sum(), len(test["mistakes"]))
    for label, scores in enumerate(test["classes"]):
        right, support, said = counts[label][label], sum(counts[label]), sum(row[label] for row in counts)
        expected = (right / said, right / support, 2 * right / (said + support), support)
        assert (scores["precision"], scores["recall"], scores["f1"], scores["support"]) == expected
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted)
    for name, column in zip(("precision", "recall", "f1", "support"), (precision, recall, f1, support), strict=True):
        assert [scores[name] for scores in test["classes"]] == pytest.approx(column.tolist()), name
    assert sum(pair["count"] for pair in test["confused"]) == test["wrong"]


def test_calibration_agrees_with_torch_and_torchmetrics(
    numbers: dict[str, Any], predictions: Arrays, reported_run: Path
) -> None:
    labels, probs = torch.tensor(predictions[0]), torch.tensor(predictions[2])
    found = numbers["test"]["calibration"]
    temperature = load_calibrated(best_checkpoint(reported_run) or "").network.temperature
    assert found["temperature"] == pytest.approx(float(temperature))
    for when, calibrated in (("before", probs), ("after", F.softmax(probs.log() / temperature, dim=1))):
        below_one = calibrated.clamp(max=1 - 1e-9)  # torchmetrics puts 1 into a bin of its own
        ece = multiclass_calibration_error(below_one, labels, 10, n_bins=15)
        assert found[when]["ece"] == pytest.approx(float(ece), abs=1e-6)
        assert found[when]["nll"] == pytest.approx(float(F.nll_loss(calibrated.log(), labels)))
        assert found[when]["brier"] == pytest.approx(float(((calibrated - F.one_hot(labels, 10)) ** 2).sum(1).mean()))
        assert sum(one["count"] for one in found[when]["bins"]) == 360


def test_the_detector_rejects_what_inference_rejects(
    numbers: dict[str, Any], predictions: Arrays, reported_run: Path, digits_data: MNISTDataModule
) -> None:
    network, _, threshold, _ = load_calibrated(best_checkpoint(reported_run) or "")
    with torch.inference_mode():
        accepted = (network(digits_data.in_memory.test_images)[1] <= threshold).numpy()
    found = numbers["test"]["detector"]
    assert (found["images"], found["rejected"]) == (accepted.sum(), (~accepted).sum())
    assert found["right"] == (accepted & (predictions[0] == predictions[1])).sum()


def two_classes(labels: list[int], confidence: list[float], wrong: set[int]) -> Predictions:
    """Predictions with these confidences; the images `wrong` get the other class."""
    predicted = [1 - label if row in wrong else label for row, label in enumerate(labels)]
    probs = [[c, 1 - c] if answer == 0 else [1 - c, c] for answer, c in zip(predicted, confidence, strict=True)]
    return Predictions(list(range(100, 100 + len(labels))), labels, predicted, probs, ["a", "b"])


def test_a_small_case_counted_by_hand() -> None:
    test = two_classes([0, 0, 1, 1], [0.95, 0.55, 0.75, 0.92], {1, 3})
    found = run_scores(test, None, np.array([False, True, False, True]))
    assert found["confusion"] == [[1, 1], [1, 1]]
    assert found["coverage"]["rows"][0] == {"coverage": 1, "images": 4, "wrong": 2, "accuracy": 0.5, "least": 0.55}
    assert found["coverage"]["curve"] == [[0.5, 0.5], [0.75, 2 / 3], [1.0, 0.5]]
    mistakes = [(one["index"], one["predicted"], one["probability"]) for one in found["mistakes"]]
    assert mistakes == [(103, 0, 0.92), (101, 1, 0.55)]
    assert found["suspects"] == found["mistakes"][:1]
    at_the_limit = run_scores(two_classes([0, 1], [0.9, 0.8], {0, 1}), None, None)
    assert [one["index"] for one in at_the_limit["suspects"]] == [100]
    assert found["calibration"]["after"] is None
    detector = found["detector"]
    assert (detector["images"], detector["accuracy"], detector["rejected_wrong"]) == (2, 1.0, 2)


def test_calibration_bins_hold_the_confidences_up_to_their_upper_edge() -> None:
    found = run_scores(two_classes([0] * 5, [0.6, 0.6, 0.95, 0.95, 1.0], {1}), None, None)["calibration"]["before"]
    filled = {n: one for n, one in enumerate(found["bins"]) if one["count"]}
    assert [(one["low"], one["high"]) for one in found["bins"]] == [(n / 15, (n + 1) / 15) for n in range(15)]
    assert {n: (one["count"], one["accuracy"]) for n, one in filled.items()} == {8: (2, 0.5), 14: (3, 1.0)}
    assert [one["confidence"] for one in filled.values()] == pytest.approx([0.6, 2.9 / 3])
    assert found["ece"] == pytest.approx((2 * 0.1 + 3 * 0.1 / 3) / 5)


def test_a_temperature_divides_the_log_probabilities() -> None:
    probs = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])
    for temperature in (0.5, 1.0, 2.5):
        expected = torch.tensor(probs).log().div(temperature).softmax(dim=1).numpy()
        np.testing.assert_allclose(apply_temperature(probs, temperature), expected)


def test_each_class_names_its_most_frequent_mistake() -> None:
    labels, predicted = [0, 0, 0, 1, 1, 2], [1, 2, 2, 1, 0, 2]
    test = Predictions(list(range(6)), labels, predicted, np.eye(3)[predicted].tolist(), ["a", "b", "c"])
    found = run_scores(test, None, None)
    assert found["confusion"] == [[0, 1, 2], [1, 1, 0], [0, 0, 1]]
    assert [(one["taken_for"], one["times"]) for one in found["classes"]] == [(2, 2), (0, 1), (None, 0)]


def test_seeds_that_agree_against_the_label_are_a_likely_label_error() -> None:
    parts = ((0.6, {0, 1}), (0.8, {0, 3}))
    tests = [two_classes([0, 0, 1, 1], [0.9, 0.8, 0.7, last], wrong) for last, wrong in parts]
    found = group_scores(["s/0", "s/1"], tests, [1.0, 1.0])
    assert [(one["index"], one["predicted"]) for one in found["suspects"]] == [(100, 1)]
    assert found["suspects"][0]["probability"] == pytest.approx(0.9)
    assert [found[name] for name in ("mean", "sd", "low", "high")] == [0.5, 0.0, None, None]
    # 0 and 3 stay wrong, since 0.8 beats 0.6; image 1 is a tie, in which the first class, the right one, wins.
    assert found["ensemble"] == 0.5
    votes = [two_classes([0], [confidence], wrong) for confidence, wrong in ((0.6, {0}), (0.9, set[int]()))]
    assert group_scores(["s/0", "s/1"], votes, [None, 1.0])["ensemble"] == 1


def test_the_most_frequent_confusion_comes_first_and_ties_stay_in_order() -> None:
    labels, predicted = [2, 2, 1, 0, 0, 1], [0, 0, 2, 1, 0, 1]
    test = Predictions(list(range(6)), labels, predicted, np.eye(3)[predicted].tolist(), ["a", "b", "c"])
    pairs = [(pair["true"], pair["predicted"], pair["count"]) for pair in run_scores(test, None, None)["confused"]]
    assert pairs == [(2, 0, 2), (0, 1, 1), (1, 2, 1)]


def test_a_class_without_images_or_answers_has_no_score() -> None:
    test = Predictions([0], [0], [0], [[1.0, 0.0, 0.0]], ["a", "b", "c"])
    json.dumps(found := run_scores(test, None, None), allow_nan=False)
    for score in ("precision", "recall", "f1"):
        assert [one[score] for one in found["classes"]] == [1.0, None, None]
    assert found["calibration"]["before"]["nll"] == 0
    wrong = run_scores(Predictions([0], [0], [1], [[0.0, 1.0]], ["a", "b"]), None, None)
    assert [repr(one["support"]) for one in wrong["classes"]] == ["1", "0"]


def test_an_underflowed_probability_costs_a_finite_loss() -> None:
    found = run_scores(Predictions([0], [1], [0], [[1.0, 0.0]], ["a", "b"]), 0.5, None)
    assert math.isfinite(found["calibration"]["after"]["nll"])


def test_long_curves_are_means_of_neighboring_points(tmp_path: Path) -> None:
    rows = "\n".join(f"{step},{step / 10}," for step in range(450))
    tmp_path.joinpath("metrics.csv").write_text(f"step,lr,val/acc\n{rows}\n449,,nan\n449,,1e300\n")
    found = training_curves(tmp_path)
    assert len(found["lr"]) == 150
    assert found["lr"][0] == pytest.approx([2, 0.1])
    assert found["val/acc"] == []
