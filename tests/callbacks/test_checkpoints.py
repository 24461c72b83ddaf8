"""Which checkpoints a fit writes, when, and what they contain."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mnist_lit.runs import checkpoint, versions
from mnist_lit.system.atomic_file import write_atomic

Cli = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("small_calibration")


def load(number: int, name: str = "last") -> dict[str, Any]:
    """A checkpoint of lightning_logs/version_N."""
    content: dict[str, Any] = torch.load(f"lightning_logs/version_{number}/checkpoints/{name}.ckpt")
    return content


def same_weights(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(weights.equal(other["state_dict"][name]) for name, weights in one["state_dict"].items())


def test_a_checkpoint_describes_itself(tiny_run: Path) -> None:
    content = torch.load(tiny_run / "checkpoints/best.ckpt", weights_only=True)
    metadata = content["mnist_lit"]
    assert yaml.safe_load(metadata["config"]) == yaml.safe_load(tiny_run.joinpath("config.yaml").read_text())
    assert 0 <= metadata["scores"]["val/acc"] <= 1
    assert len(metadata["data"]) == 32
    assert metadata["versions"] == versions.run_versions()
    assert "earlier" not in metadata
    assert content["hyper_parameters"]["lr"] == 0.03
    assert not [name for name in content["hyper_parameters"] if name.startswith("_")]


def test_a_run_that_is_resumed_on_another_machine_names_both(
    cli: Cli, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = load(0)["mnist_lit"]["versions"]
    fit = ("fit", "--ckpt_path", "lightning_logs/version_0/checkpoints/last.ckpt", "--trainer.max_epochs", "2")
    assert cli(*fit)[0] == 0
    assert load(1)["mnist_lit"]["versions"] == here
    assert "earlier" not in load(1)["mnist_lit"]
    monkeypatch.setattr(versions, "cpu_name", lambda: "2 × abacus")
    for number in (2, 3):  # the second one resumes on the same machine as the first
        assert cli(*fit)[0] == 0
        metadata = load(number)["mnist_lit"]
        assert (metadata["versions"], metadata["earlier"]) == ({**here, "cpu": "2 × abacus"}, [here])
        fit = ("fit", "--ckpt_path", "lightning_logs/version_2/checkpoints/last.ckpt", "--trainer.max_epochs", "3")
    slim = checkpoint.strip_for_sharing(load(3))
    assert checkpoint.Metadata.of(slim).earlier == (here,)
    assert cli("report", "version_3", "--images", "20")[0] == 0
    page = Path("lightning_logs/version_3/report.html").read_text(encoding="utf-8")
    assert f"Resumed: earlier steps were trained with cpu {here['cpu']}." in page
    assert "2 × abacus" in page


def test_keep_epochs_keeps_every_epoch_also_after_a_resume(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    assert cli(*tiny_fit, "--trainer.max_epochs", "2", "--keep_epochs", "true")[0] == 0
    names = {path.stem for path in Path("lightning_logs/version_0/checkpoints").iterdir()}
    assert names == {"best", "last", "previous", "epoch_1", "epoch_2"}
    assert (load(0, "epoch_1")["global_step"], load(0, "epoch_2")["global_step"]) == (2, 4)
    assert same_weights(load(0, "epoch_2"), load(0))
    last = "lightning_logs/version_0/checkpoints/last.ckpt"
    assert cli("fit", "--ckpt_path", last, "--trainer.max_epochs", "3")[0] == 0
    assert load(1, "epoch_3")["global_step"] == 6


@pytest.mark.parametrize(
    "failing", [pytest.param(number, marks=pytest.mark.slow) if number != 3 else number for number in range(1, 7)]
)
def test_a_run_that_stops_at_any_save_ends_with_every_epochs_file(
    cli: Cli, tiny_fit: tuple[str, ...], failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = (*tiny_fit, "--trainer.max_epochs", "2", "--keep_epochs", "true")
    saves = 0

    def write(path: Path, *args: Any) -> None:
        nonlocal saves
        saves += path.suffix == ".ckpt"
        if saves == failing and path.suffix == ".ckpt":
            raise OSError(28, "No space left on device")
        write_atomic(path, *args)

    monkeypatch.setattr(checkpoint, "write_atomic", write)
    stopped = cli(*fit)[0]
    assert bool(stopped) == (failing <= saves)
    assert cli(*fit, "--resume", "auto")[0] == 0
    assert cli(*fit)[0] == 0
    names = [sorted(path.name for path in Path(f"lightning_logs/version_{n}/checkpoints").iterdir()) for n in (0, 1)]
    assert names[0] == names[1]
    for name in names[1]:
        assert same_weights(load(0, name.removesuffix(".ckpt")), load(1, name.removesuffix(".ckpt"))), name


def test_a_run_stopped_in_mid_epoch_resumes_at_that_step(cli: Cli) -> None:
    fit = ["fit", "--data.dataset", "digits", "--data.val_size", "1277", "--data.batch_size", "32"]  # 5 steps an epoch
    fit += ["--model.schedule", "constant", "--data.degrees", "15", "--trainer.max_epochs", "3"]
    fit += ["--trainer.limit_val_batches", "2"]
    assert cli(*fit)[0] == 0
    assert cli(*fit, "--trainer.max_steps", "7")[0] == 0
    last = "lightning_logs/version_1/checkpoints/last.ckpt"
    code, out, _ = cli(*fit, "--ckpt_path", last, "--trainer.max_steps", "-1")
    assert code == 0
    assert "3  (15 steps)" in out
    uninterrupted, stopped, resumed = (load(number) for number in range(3))
    assert resumed["global_step"] == 15
    assert same_weights(uninterrupted, resumed)
    assert not same_weights(uninterrupted, stopped)


def test_best_and_last_of_the_same_epoch_resume_to_the_same_weights(cli: Cli, tiny_run: Path) -> None:
    for name in ("best", "last"):  # saved before the epoch's end, and at it
        path = str(tiny_run / f"checkpoints/{name}.ckpt")
        code, _, err = cli("fit", "--ckpt_path", path, "--trainer.max_epochs", "2")
        assert (code, err) == (0, "")
    assert load(1)["global_step"] == load(2)["global_step"] == 4
    assert same_weights(load(1), load(2))


def test_a_resumed_run_that_never_beats_the_old_best_has_a_best_of_its_own(cli: Cli, tiny_run: Path) -> None:
    content = load(0)
    content["best"] = [1.0, 0.0, 1]
    torch.save(content, tiny_run / "checkpoints/last.ckpt")
    code, out, _ = cli("fit", "--ckpt_path", str(tiny_run / "checkpoints/last.ckpt"), "--trainer.max_epochs", "2")
    assert code == 0
    best = Path(out.partition("checkpoint ")[2].split()[0])
    assert best.name == "best.ckpt"
    assert best.is_file()
