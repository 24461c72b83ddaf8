"""A model's name stands for one file."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_lit.errors import InputError
from mnist_lit.runs.locate import PRETRAINED_DIR, is_pretrained, locate_model


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
        assert locate_model("last") == best  # the only one
        last = best.with_name("last.ckpt")
        last.touch()
        assert locate_model("last") == last


def test_an_unknown_model_is_refused_with_the_closest_name() -> None:
    with pytest.raises(InputError, match="no model at pretraned; did you mean pretrained"):
        locate_model("pretraned")
    with pytest.raises(InputError, match="no model at x; expected a file, a run, latest, last or pretrained"):
        locate_model("x")
    with pytest.raises(InputError, match="expected a model's file or name, got nothing"):
        locate_model("")  # a shell's empty variable
    Path("folder").mkdir()
    with pytest.raises(InputError, match="no model at folder, which is a folder without a checkpoint; expected a file"):
        locate_model("folder")
    os.mkfifo("pipe.onnx")
    with pytest.raises(InputError, match=r"no model at pipe\.onnx, which is a pipe or a device; expected a file"):
        locate_model("pipe.onnx")


def test_an_object_is_no_name() -> None:
    with pytest.raises(
        InputError, match="expected a model's file or name, got object; save a checkpoint and name that"
    ):
        locate_model(object())  # type: ignore[arg-type]


def test_a_run_without_a_checkpoint_a_group_and_a_sweep_say_so_and_are_not_suggested() -> None:
    run, group, sweep = (Path("lightning_logs", name) for name in ("version_7", "version_8", "sweep_fast"))
    for folder in (run, group / "seed_0", sweep / "trial_0"):
        folder.mkdir(parents=True)
        folder.joinpath("config.yaml").touch()
    for name in ("version_7", run):
        with pytest.raises(InputError, match=f"^{run} has no checkpoint$"):
            locate_model(name)
    with pytest.raises(InputError, match=f"^{group} is a group of runs; name one of them, such as {group}/seed_0$"):
        locate_model("version_8")
    with pytest.raises(InputError, match=f"^{sweep} is a sweep; name one of its trials, such as {sweep}/trial_0$"):
        locate_model("sweep_fast")
    with pytest.raises(InputError, match="no model at version_70; expected"):
        locate_model("version_70")
    run.joinpath("checkpoints").mkdir()
    run.joinpath("checkpoints/best.ckpt").touch()
    with pytest.raises(InputError, match=r"no model at version_70; did you mean version_7\?"):
        locate_model("version_70")


def test_the_shipped_model_is_told_from_others() -> None:
    assert is_pretrained(PRETRAINED_DIR / "model.ckpt")
    assert not is_pretrained(Path("model.ckpt"))


@pytest.mark.parametrize("command", ["report", "compare", "test", "export"])
def test_a_name_that_no_file_can_have_is_an_input_error(error_line: Callable[..., str], command: str) -> None:
    more = ("version_0",) if command == "compare" else ()
    name = "x" * 300
    assert re.match(f"mnist-lit: no (model|run) .*at {name}", error_line(command, name, *more))
