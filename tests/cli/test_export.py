"""`mnist-lit export`: where the file goes, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_lit.errors import InputError
from mnist_lit.evaluation.calibration import load_calibrated
from mnist_lit.inference import export
from mnist_lit.inference.reader import DigitReader

pytest.importorskip("onnx", reason="needs onnx: pip install 'mnist-lit[export]'")

Cli = Callable[..., tuple[int, str, str]]
RUN = Path("lightning_logs/version_0")


@pytest.fixture(autouse=True)
def few_single_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare 20 images one by one instead of 1,000; a slow test compares all of MNIST."""
    monkeypatch.setattr("mnist_lit.inference.export.SMALL_BATCH_IMAGES", 20)


def test_the_file_goes_into_the_run(cli: Cli, trained: Path) -> None:
    shutil.copytree(trained, RUN)
    RUN.joinpath("model.onnx").unlink(missing_ok=True)
    code, out, err = cli("export")
    assert (code, err) == (0, "")
    assert f"{RUN}/model.onnx: within " in out
    assert "on 360 images" in out
    threshold = load_calibrated(RUN / "checkpoints" / "best.ckpt").threshold
    assert DigitReader.load(RUN / "model.onnx").threshold == threshold < 1
    assert [path.name for path in RUN.glob("*.onnx")] == ["model.onnx"]


def test_other_checkpoints_get_files_of_their_own(cli: Cli, trained: Path) -> None:
    shutil.copytree(trained, RUN)
    shutil.copy(RUN / "checkpoints" / "best.ckpt", "acc=0.98.ckpt")
    RUN.joinpath("model.onnx").write_text("of the best checkpoint")
    for checkpoint in ("last", "acc=0.98.ckpt"):
        assert cli("export", checkpoint)[0] == 0
    assert RUN.joinpath("model.onnx").read_text() == "of the best checkpoint"
    assert RUN.joinpath("model_last.onnx").exists()
    assert Path("acc=0.98.onnx").exists()


def test_a_target_that_cannot_be_written_is_one_line(cli: Cli) -> None:
    code, _, err = cli("export", "--model", "pretrained", "--output", "missing/model.onnx")
    assert code == 2
    assert err.startswith("mnist-lit: cannot write missing/model.onnx: No such file or directory; create the folder ")
    assert cli("export", "--model", "nothing.ckpt")[0] == 2


def test_two_exports_of_one_target_do_not_disturb_each_other(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, compare = tmp_path / "model.onnx", export.max_difference

    def export_again(*compared: Any) -> float:
        monkeypatch.setattr(export, "max_difference", compare)
        export.export_onnx(trained, target)
        return compare(*compared)

    monkeypatch.setattr(export, "max_difference", export_again)
    assert f"to {target}: within " in export.export_onnx(trained, target)
    assert [*tmp_path.iterdir()] == [target]
    assert DigitReader.load(target).labels == DigitReader.load(trained).labels


def test_a_source_that_cannot_be_read_is_not_a_target_that_cannot_be_written(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("cannot read best.ckpt: Input/output error")

    monkeypatch.setattr(export, "max_difference", fail)
    with pytest.raises(OSError, match=r"^cannot read best\.ckpt"):
        export.export_onnx(trained, Path("model.onnx"))
    assert not Path("model.onnx").exists()


def test_a_target_of_another_kind_is_refused_before_the_model_is_loaded(cli: Cli) -> None:
    Path("damaged.ckpt").touch()
    code, _, err = cli("export", "damaged.ckpt", "--output", "model.txt")
    assert (code, err) == (2, "mnist-lit: --output: expected a name that ends in .onnx, got model.txt\n")
    assert cli("export", "--output", "")[2] == "mnist-lit: --output: expected a name that ends in .onnx, got nothing\n"


@pytest.mark.slow
def test_a_run_that_is_not_calibrated_can_be_exported(cli: Cli) -> None:
    fit = ("fit", "--data.dataset", "digits", "--trainer.max_epochs", "1")
    assert cli(*fit, "--data.val_size", "0", "--data.data_dir", "/far/away")[0] == 0
    code, out, err = cli("export")
    assert (code, err) == (0, "")
    assert "not calibrated, so no image is rejected" in out
    assert DigitReader.load(RUN / "model.onnx").threshold == 1
    with pytest.raises(InputError, match="not calibrated"):
        DigitReader.load(RUN / "model.onnx", threshold=0.5)
    assert b"/far/away" not in RUN.joinpath("model.onnx").read_bytes()
