"""The report names the recipe, the data and the commands that reproduce a run, without the machine's paths."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.evaluation.report.provenance import provenance
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.metadata import config_of, with_metadata


def test_the_origin_is_the_checkpoints_own(numbers: dict[str, Any], digits_data: MNISTDataModule) -> None:
    origin = numbers["origin"]
    assert origin["data"] == {"dataset": "digits", "md5": digits_data.fingerprint, "train": 1257, "val": 180}
    assert (origin["epochs"], origin["finished"], origin["seed"]) == (3, True, 0)
    settings = {setting["name"]: setting["value"] for setting in origin["settings"]}
    assert (settings["data.dataset"], settings["trainer.max_epochs"]) == ("digits", 3)
    assert not {"data.data_dir", "trainer.default_root_dir", "data.seed"} & {*settings}


def test_epochs_are_those_that_the_run_was_trained_for(trained: Path, digits_data: MNISTDataModule) -> None:
    run = Path("lightning_logs/version_4").resolve()
    run.mkdir(parents=True)
    run.joinpath("metrics.csv").write_text("epoch,train/loss\n0,1.5\n")
    run.joinpath("finished").write_text("0.5\n")
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    assert provenance(run, [run], content, digits_data)["epochs"] == 0.5
    for name, finished in ((None, None), ("config.yaml", True)):
        run.joinpath(name or "other").touch()
        assert provenance(run, [run], content, digits_data)["finished"] is finished
    run.joinpath("finished").unlink()
    assert provenance(run, [run], content, digits_data)["finished"] is False


def test_a_configuration_without_a_batch_size_has_the_default(trained: Path, digits_data: MNISTDataModule) -> None:
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    settings = config_of(content)
    del settings["data"]["batch_size"]
    content = with_metadata(content, config=yaml.safe_dump(settings))
    expected = math.ceil(1257 / digits_data.batch_size)
    assert provenance(trained, [trained], content, digits_data)["steps_per_epoch"] == expected


@pytest.mark.parametrize(("limit", "steps"), [(None, 10), (2, 1), (0.5, 5), (1.0, 10)])
def test_an_epoch_has_the_steps_that_the_trainers_limits_leave(
    limit: float | None, steps: int, trained: Path, digits_data: MNISTDataModule
) -> None:
    """Of 20 batches of 64 of the 1,257 images, two per step."""
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    settings = config_of(content)
    settings["trainer"] |= {"limit_train_batches": limit, "accumulate_grad_batches": 2}
    settings["data"]["batch_size"] = 64
    content = with_metadata(content, config=yaml.safe_dump(settings))
    assert provenance(trained, [trained], content, digits_data)["steps_per_epoch"] == steps


@pytest.mark.parametrize(
    ("recorded", "reported"),
    [
        ("fit --config /mnt/me/r.yaml --model.lr 0.1", "fit --config r.yaml --model.lr 0.1"),
        ("fit --config=/mnt/me/r.yaml", "fit --config r.yaml"),
        (
            "fit --trainer /mnt/me/t.yaml --trainer.logger=/mnt/me/l.yaml",
            "fit --trainer t.yaml --trainer.logger=l.yaml",
        ),
        ("fit --model '{init_from: /mnt/me/a.ckpt}'", """fit --model '{"init_from": "a.ckpt"}'"""),
        ("fit --data.data_dir /data --trainer.default_root_dir=/logs --seed_everything 3", "fit --seed_everything 3"),
        ("fit --model.init_from '/mnt/my runs/best.ckpt'", "fit --model.init_from best.ckpt"),
        ("fit --data '{data_dir: /data, batch_size: 8}'", """fit --data '{"batch_size": 8}'"""),
        (
            """fit --trainer.logger '{class_path: CSVLogger, init_args: {save_dir: /me, name: a}}'""",
            """fit --trainer.logger '{"class_path": "CSVLogger", "init_args": {"name": "a"}}'""",
        ),
    ],
)
def test_a_command_keeps_no_path(recorded: str, reported: str, trained: Path, digits_data: MNISTDataModule) -> None:
    run = Path("lightning_logs/version_4").resolve()
    run.mkdir(parents=True)
    run.joinpath("config.yaml").write_text(f"# mnist-lit {recorded}\n")
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    assert provenance(run, [run], content, digits_data)["commands"] == [
        f"mnist-lit {reported}",
        "mnist-lit test lightning_logs/version_4",
        "mnist-lit report version_4",
    ]


def test_a_checkpoint_outside_a_run_is_named_by_its_file(trained: Path, digits_data: MNISTDataModule) -> None:
    path = Path("shared/mine.ckpt").resolve()
    path.parent.mkdir()
    path.write_bytes(trained.joinpath("checkpoints/best.ckpt").read_bytes())
    commands = provenance(path.parent, [path], load_checkpoint(path), digits_data)["commands"]
    assert commands == ["mnist-lit test mine.ckpt", "mnist-lit report mine.ckpt"]


def test_a_command_with_unbalanced_quotes_is_left_out(trained: Path, digits_data: MNISTDataModule) -> None:
    run = Path("lightning_logs/version_4").resolve()
    run.mkdir(parents=True)
    run.joinpath("config.yaml").write_text("# mnist-lit fit --model.lr '0.1\n")
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    assert provenance(run, [run], content, digits_data)["commands"][0].startswith("mnist-lit test ")
