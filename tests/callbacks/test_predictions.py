"""predictions.csv holds every test image once."""

import csv
import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.runs.checkpoint import load_checkpoint, save_checkpoint
from shapes import shapes

Cli = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("small_calibration")


def test_every_test_image_has_one_row_with_its_probabilities(cli: Cli, tiny_run: Path) -> None:
    assert cli("test")[0] == 0
    with tiny_run.joinpath("predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(360))
    for row in rows:
        probs = [float(row[f"prob_{label}"]) for label in range(10)]
        assert sum(probs) == pytest.approx(1, abs=1e-5)
        assert max(probs) == probs[int(row["predicted"])]


def test_a_full_disk_does_not_cost_the_score(cli: Cli, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, out, err = cli("test")
    path = tiny_run / "predictions.csv"
    assert (code, err) == (2, f"mnist-lit: cannot write {path}: No space left on device\n")
    assert "test/acc" in out
    assert not path.exists()
    assert any(tiny_run.joinpath("test").iterdir())


def test_a_closed_pipe_costs_no_file(cli: Cli, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FirstLine(io.StringIO):  # as for `head -1`
        def write(self, text: str) -> int:
            if "\n" in self.getvalue():
                raise BrokenPipeError
            return super().write(text)

    monkeypatch.setattr(sys, "stdout", FirstLine())
    assert cli("test")[0] == 1
    assert len(tiny_run.joinpath("predictions.csv").read_text().splitlines()) == 361
    assert any(tiny_run.joinpath("test").iterdir())


def test_nothing_is_written_if_a_fit_replaces_the_checkpoint_during_the_test(
    cli: Cli, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny_run / "checkpoints/best.ckpt"

    def replace(*_: object) -> None:
        content = load_checkpoint(checkpoint)
        save_checkpoint({**content, "global_step": content["global_step"] + 1}, checkpoint)

    monkeypatch.setattr("mnist_lit.callbacks.tables.ScoreTable.on_test_epoch_end", replace)
    code, out, err = cli("test")
    assert (code, err) == (2, f"mnist-lit: {checkpoint} was replaced while it was tested; repeat the command\n")
    assert "test/acc" in out
    assert not tiny_run.joinpath("predictions.csv").exists()


def test_a_limited_test_does_not_overwrite_the_predictions(cli: Cli, tiny_run: Path) -> None:
    assert cli("test")[0] == 0
    before = tiny_run.joinpath("predictions.csv").read_bytes()
    code, out, _ = cli("test", "--trainer.limit_test_batches", "1")
    assert code == 0
    assert "predictions" not in out
    assert tiny_run.joinpath("predictions.csv").read_bytes() == before


def test_a_test_on_another_dataset_leaves_the_runs_own_alone(
    cli: Cli, tiny_run: Path, digits_data: MNISTDataModule
) -> None:
    assert cli("test")[0] == 0
    before = tiny_run.joinpath("predictions.csv").read_bytes()
    scores = sorted(tiny_run.joinpath("test").iterdir())
    for split in ("train", "val", "test"):
        for label in range(10):
            place = Path("pictures", split, str(label))
            place.mkdir(parents=True)
            Image.fromarray(255 - digits_data.in_memory.test_images[label].numpy()).save(place / "0.png")
    code, out, err = cli("test", "--data.dataset", "folder", "--data.data_dir", "pictures")
    assert (code, err) == (0, "")
    assert f"{tiny_run}/predictions_folder.csv" in out
    with tiny_run.joinpath("predictions_folder.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == [f"test/{label}/0.png" for label in range(10)]
    assert tiny_run.joinpath("predictions.csv").read_bytes() == before
    assert sorted(tiny_run.joinpath("test").iterdir()) == scores


def test_other_pictures_of_the_same_classes_are_another_dataset(cli: Cli) -> None:
    shapes(train=4, val=2, test=2)
    folder = ("--data.dataset", "folder", "--data.data_dir")
    fit = ("--data.batch_size", "8", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1")
    assert cli("fit", *folder, "my-shapes", *fit)[0] == 0
    predictions = Path("lightning_logs/version_0/predictions.csv")
    assert f"{predictions}\n" in cli("test")[1]
    before = predictions.read_bytes()
    shutil.copytree("my-shapes", "copied")
    for same in ("copied", "./my-shapes"):
        assert f"{predictions}\n" in cli("test", "--data.data_dir", same)[1]
    next(Path("copied/test/circle").iterdir()).unlink()
    code, out, err = cli("test", "--data.data_dir", "copied")
    assert (code, err) == (0, "")
    assert f"{predictions.with_name('predictions_folder.csv')}\n" in out
    assert predictions.read_bytes() == before
    next(Path("my-shapes/test/circle").iterdir()).unlink()  # as someone does who corrects the folder
    assert cli("test")[0] == 0
    assert predictions.read_bytes() != before


def test_a_test_of_another_checkpoint_leaves_the_best_ones_alone(cli: Cli, tiny_run: Path) -> None:
    assert cli("test")[0] == 0
    before = tiny_run.joinpath("predictions.csv").read_bytes()
    code, out, _ = cli("test", "--ckpt_path", f"{tiny_run}/checkpoints/last.ckpt")
    assert code == 0
    assert f"{tiny_run}/predictions_last.csv" in out
    assert tiny_run.joinpath("predictions_last.csv").exists()
    assert tiny_run.joinpath("predictions.csv").read_bytes() == before
    assert cli("test", "--ckpt_path", f"{tiny_run.resolve()}/checkpoints/best.ckpt")[0] == 0
    assert sorted(path.name for path in tiny_run.glob("*.csv")) == [
        "metrics.csv",
        "predictions.csv",
        "predictions_last.csv",
    ]
