"""A model's name stands for one file."""

from pathlib import Path

import pytest

from mnist_lit.errors import InputError
from mnist_lit.runs.locate import PRETRAINED_DIR, is_pretrained, locate_model, published_score


def test_a_model_is_a_file_a_run_the_newest_run_or_the_shipped_one() -> None:
    assert locate_model(None) == locate_model("pretrained") == PRETRAINED_DIR / "model.ckpt"  # no run yet
    assert locate_model("pretrained", "model.onnx") == PRETRAINED_DIR / "model.onnx"
    with pytest.raises(InputError, match="nothing was trained"):
        locate_model("latest")
    for number in (0, 1):
        best = Path(f"lightning_logs/version_{number}/checkpoints/best.ckpt")
        best.parent.mkdir(parents=True)
        best.touch()
        for name in (None, "latest", f"version_{number}", f"lightning_logs/version_{number}", best):
            assert locate_model(name) == best


def test_an_unknown_model_is_refused_with_the_closest_name() -> None:
    with pytest.raises(InputError, match="no model at pretraned; did you mean pretrained"):
        locate_model("pretraned")
    with pytest.raises(InputError, match="no model at x; expected a file, a run, latest or pretrained"):
        locate_model("x")


def test_the_shipped_model_knows_its_score() -> None:
    assert is_pretrained(PRETRAINED_DIR / "model.ckpt")
    assert not is_pretrained(Path("model.ckpt"))
    assert "seeds" in published_score()
