"""A run folder's results, also of damaged files."""

from pathlib import Path

import pytest

from mnist_lit.runs.results import (
    Predictions,
    Validation,
    best_validation,
    ensemble_accuracy,
    read_curve,
    read_predictions,
    read_validations,
    trained_epochs,
)

HUGE = "9" * 400
HEAD = "index,label,predicted\n"
PREDICTIONS = "index,label,predicted,prob_0,prob_1\n0,1,1,0.2,0.8\n1,0,1,0.4,0.6\n2,0,0,0.9,0.1\n"


def test_a_test_is_read_image_by_image(tmp_path: Path) -> None:
    tmp_path.joinpath("predictions.csv").write_text(PREDICTIONS)
    tested = read_predictions(tmp_path)
    assert tested
    assert (tested.indices, tested.labels, tested.predicted) == ([0, 1, 2], [1, 0, 0], [1, 1, 0])
    assert tested.probs == [[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]]
    assert tested.right == 2
    assert tested.acc == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "text",
    [
        *("", "index,label\n0,1\n", f"{HEAD}0,one,1\n", HEAD, f"{HEAD}0,1,1,0.5\n1,2\n"),
        f"{HEAD}0,1,1\n",  # no probabilities
        *(PREDICTIONS.replace("0,1,1,0.2,0.8", row) for row in (
            *("0,1,99,0.2,0.8", "0,2,1,0.2,0.8", "0,-1,1,0.2,0.8", "0,1,-1,0.2,0.8"),
            *("0,1,0,0.2,0.8", "0,1,1,nan,0.8", "0,1,1,0.2,nan", "0,1,1,-0.2,0.8", "0,1,1,0.2,inf"),
            f"{HUGE},1,1,0.2,0.8",
        )),
    ],
)  # fmt: skip
def test_a_damaged_test_is_none(text: str, tmp_path: Path) -> None:
    assert read_predictions(tmp_path) is None
    tmp_path.joinpath("predictions.csv").write_text(text)
    assert read_predictions(tmp_path) is None


def test_of_equal_probabilities_either_class_may_be_predicted(tmp_path: Path) -> None:
    for answer in (0, 1):
        tmp_path.joinpath("predictions.csv").write_text(f"index,label,predicted,prob_0,prob_1\n0,1,{answer},0.5,0.5\n")
        assert read_predictions(tmp_path)


def test_rows_of_numbers_that_no_run_has_are_skipped(tmp_path: Path) -> None:
    rows = ["step,epoch,train/loss,val/acc,val/loss", "7,1,,0.9,0.1", "7,1,1.5,,"]
    rows += [f"8,2,,{acc},0.1" for acc in ("nan", "inf", "1.5", "-1")]
    rows += [f"{number},{number},1.5,1,0.1" for number in (HUGE, "-1", str(2**53))]
    tmp_path.joinpath("metrics.csv").write_text("\n".join(rows))
    assert best_validation(tmp_path) == Validation(0.9, 0.1, 2)
    assert trained_epochs(tmp_path) == 2
    assert read_curve(tmp_path, "train/loss") == [(7, 1.5)]


def test_a_table_larger_than_any_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("predictions.csv").write_text(PREDICTIONS)
    tmp_path.joinpath("metrics.csv").write_text("step,lr\n0,0.5\n")
    assert read_predictions(tmp_path)
    assert read_curve(tmp_path, "lr")
    monkeypatch.setattr("mnist_lit.system.csv_file.MAX_BYTES", 10)
    assert read_predictions(tmp_path) is None
    assert read_curve(tmp_path, "lr") == []


def test_a_damaged_curve_is_empty_not_shorter(tmp_path: Path) -> None:
    rows = "".join(f"{step},0.5\n" for step in range(5000))
    for damage in (b"\xff", b"1" * 200_000):  # no UTF-8, and a cell too long for a table
        tmp_path.joinpath("metrics.csv").write_bytes(f"step,lr\n{rows}".encode() + damage)
        assert read_curve(tmp_path, "lr") == []


def test_of_equal_accuracies_the_one_with_the_lower_loss_is_best(tmp_path: Path) -> None:
    assert best_validation(tmp_path) is None
    assert trained_epochs(tmp_path) == 0
    rows = (
        "epoch,train/loss,val/acc,val/loss",
        "0,,0.9,0.1",
        "0,1.5,,",
        "1,,0.95,0.3",
        "1,1.2,,",
        "2,,0.95,0.2",
        "2,1.1,,",
    )
    tmp_path.joinpath("metrics.csv").write_text("\n".join(rows))
    assert best_validation(tmp_path) == Validation(0.95, 0.2, 3)
    assert trained_epochs(tmp_path) == 3
    assert read_validations(tmp_path) == [Validation(0.9, 0.1, 1), Validation(0.95, 0.3, 2), Validation(0.95, 0.2, 3)]


def test_validations_are_ranked_by_accuracy_then_loss_then_epoch() -> None:
    ranked = [Validation(0.9, 0.1, 1), Validation(0.95, 0.3, 2), Validation(0.95, 0.2, 4), Validation(0.95, 0.2, 3)]
    for number, better in enumerate(ranked):
        assert [better.rank() > other.rank() for other in ranked] == [number > i for i in range(len(ranked))]


def test_every_accuracy_from_none_to_all_is_a_validation(tmp_path: Path) -> None:
    rows = "0,0,0.5\n1,1,0\n2,1.01,0\n3,-0.1,0\n4,nan,0\n5,inf,0\n"
    tmp_path.joinpath("metrics.csv").write_text(f"epoch,val/acc,val/loss\n{rows}")
    assert read_validations(tmp_path) == [Validation(0, 0.5, 1), Validation(1, 0, 2)]


def test_a_curve_has_the_steps_at_which_its_scalar_was_logged(tmp_path: Path) -> None:
    assert read_curve(tmp_path, "lr") == []
    tmp_path.joinpath("metrics.csv").write_text("lr,step,val/acc\n0.5,0,\n,0,0.9\n0.25,1,\n")
    assert read_curve(tmp_path, "lr") == [(0, 0.5), (1, 0.25)]
    assert read_curve(tmp_path, "val/acc") == [(0, 0.9)]


def test_an_epoch_that_was_only_validated_is_not_complete(tmp_path: Path) -> None:
    tmp_path.joinpath("metrics.csv").write_text("epoch,train/loss,val/acc\n0,,0.9\n")
    assert trained_epochs(tmp_path) == 0
    tmp_path.joinpath("metrics.csv").write_text("epoch,train/loss,val/acc\n0,,0.9\n0,1.5,\n1,,0.9\n")
    assert trained_epochs(tmp_path) == 1


def test_a_test_with_a_damaged_byte_is_none_not_shorter(tmp_path: Path) -> None:
    rows = "".join(f"{i},1,1,0.2,0.8\n" for i in range(5000))
    tmp_path.joinpath("predictions.csv").write_bytes((PREDICTIONS + rows).encode() + b"\xff")
    assert read_predictions(tmp_path) is None


def test_an_ensemble_averages_probabilities() -> None:
    sure, unsure = [[0.9, 0.1], [0.2, 0.8]], [[0.4, 0.6], [0.6, 0.4]]
    tests = [Predictions([0, 1], [0, 1], [int(b > a) for a, b in probs], probs, ["a", "b"]) for probs in (sure, unsure)]
    assert [test.acc for test in tests] == [1, 0]
    assert ensemble_accuracy(tests) == 1  # 1.3 against 0.7, and 0.8 against 1.2


def test_an_ensemble_neither_votes_nor_follows_the_surest_run() -> None:
    votes = [[0.4, 0.6], [0.4, 0.6], [0.9, 0.1]]  # 1.7 against 1.3, although two of three say 1
    surest = [[0.1, 0.9], [0.8, 0.2], [0.7, 0.3]]  # 1.6 against 1.4, although one is surer of 1
    tests = [Predictions([0, 1], [0, 0], [0, 0], [*pair], ["a", "b"]) for pair in zip(votes, surest, strict=True)]
    for labels, expected in (([0, 0], 1), ([0, 1], 0.5), ([1, 0], 0.5), ([1, 1], 0)):
        assert ensemble_accuracy([test._replace(labels=labels) for test in tests]) == expected


def test_an_unfinished_run_was_trained_for_the_epochs_it_completed(tmp_path: Path) -> None:
    tmp_path.joinpath("metrics.csv").write_text("epoch,train/loss\n0,1.5\n1,1.2\n")
    assert trained_epochs(tmp_path) == 2
    tmp_path.joinpath("finished").write_text("2.5\n")
    assert trained_epochs(tmp_path) == 2.5
