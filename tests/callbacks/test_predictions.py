"""predictions.csv holds every test image once."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]


def test_every_test_image_has_one_row_with_its_probabilities(cli: Cli, tiny_run: Path) -> None:
    assert cli("test")[0] == 0
    with tiny_run.joinpath("predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(360))
    for row in rows:
        probs = [float(row[f"prob_{label}"]) for label in range(10)]
        assert sum(probs) == pytest.approx(1, abs=1e-5)
        assert max(probs) == probs[int(row["predicted"])]


def test_a_limited_test_does_not_overwrite_the_predictions(cli: Cli, tiny_run: Path) -> None:
    assert cli("test")[0] == 0
    before = tiny_run.joinpath("predictions.csv").read_bytes()
    code, out, _ = cli("test", "--trainer.limit_test_batches", "1")
    assert code == 0
    assert "predictions" not in out
    assert tiny_run.joinpath("predictions.csv").read_bytes() == before
