"""The command line as a user meets it: fast where it can be, one line where something is wrong."""

import csv
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from mnist_lit import __version__
from mnist_lit.callbacks.figures import TensorBoardFigures
from mnist_lit.data.augmentation import RandomAffine
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.module import MNISTModule
from mnist_lit.runs.folders import all_runs, best_checkpoint

Cli = Callable[..., tuple[int, str, str]]
SMALL = ("--data.dataset", "digits", "--data.val_size", "96", "--data.batch_size", "64")
FIT = ("fit", *SMALL, "--trainer.limit_train_batches", "2")  # two steps an epoch


@pytest.fixture
def trained(cli: Cli) -> Path:
    """The folder of a run of one epoch."""
    code, _, _ = cli(*FIT, "--trainer.max_epochs", "1", "--model.lr", "0.03")
    assert code == 0
    return Path("lightning_logs/version_0")


@pytest.mark.parametrize(
    "args",
    [["--help"], ["--version"], ["fitt"], ["fit", "--config", "gone.yaml"], ["test"], ["test", "--ckpt_path", "gone"]],
    ids=" ".join,
)
def test_the_front_answers_without_importing_torch(args: list[str]) -> None:
    program = f"import sys; from mnist_lit.cli.main import main; main({args}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_help_lists_the_commands_and_recipes(cli: Cli) -> None:
    code, out, _ = cli("--help")
    assert code == 0
    for word in ("fit", "validate", "test", "runs", "summary", "data", "quickstart", "tutorial"):
        assert f"{word}" in out


def test_version_is_the_packages(cli: Cli) -> None:
    assert cli("--version") == (0, f"mnist-lit {__version__}\n", "")


def test_python_dash_m_is_the_same_program() -> None:
    run = subprocess.run([sys.executable, "-m", "mnist_lit", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"mnist-lit {__version__}\n"


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["fitt"], "unknown command fitt; did you mean fit?"),
        (["train"], "unknown command train; did you mean fit?"),
        (["fit", "--config", "quickstrat"], "no config at quickstrat; did you mean quickstart?"),
        (["fit", "--model.lrr", "1"], "unknown option model.lrr; did you mean model.lr?"),
        (["fit", "--lr=1"], "unknown option lr; did you mean model.lr?"),
        (["fit", "--model.lr", "fast"], "model.lr: expected a number, got fast"),
        (["fit", "--model.optimizer", "adam"], "expected sgd or adamw or muon, got adam; did you mean adamw?"),
        (["fit", "--data.batch_size", "0"], "data.batch_size: expected 1 or more, got 0"),
        (["fit", "--model.lr=-1"], "model.lr: expected above 0, got -1.0"),
        (
            ["fit", "--data.dataset", "minst"],
            "expected mnist or fashion_mnist or kmnist or digits or folder, got minst; did you mean mnist?",
        ),
        (["fit", "quickstart"], "quickstart is no option; a recipe is named with --config quickstart"),
        (["fit", "--config"], "--config expects a file"),
        (["test", "--ckpt_path="], "--ckpt_path expects a file"),
        (["fit", "--model.learning_rate", "1"], "unknown option model.learning_rate; did you mean model.lr?"),
        (["fit", "--trainer.max_epoch", "3"], "unknown option trainer.max_epoch; did you mean trainer.max_epochs?"),
        (["fit", "--trainer.accelerator", "abacus"], "abacus"),
        (["fit", "--trainer.strategy", "chess"], "chess"),
        (["fit", "--trainer.devices", "0"], "0"),
        ([*FIT, "--trainer.devices", "9999"], "or fewer CPU processes here, got 9999"),
        (["fit", "--trainer.max_epochs", "many"], "trainer.max_epochs: expected a whole number, got many"),
        (["fit", "--model.nesterov", "maybe"], "model.nesterov: expected true or false, got maybe"),
        (["fit", "--trainer.precision", "8"], "trainer.precision: expected 64 or 32 or 16 or transformer-engine or"),
        (["fit", "--data.mirrors", "http://127.0.0.1:9"], "and no mirror gives it (http://127.0.0.1:9: "),
        (["fit", "--data.mirrors", "[a, b]"], "; b: unknown url type: "),
        (["fit", "--data.mirrors", "a,b"], "; b: unknown url type: "),
        (["data", "--mirrors", "a,b"], "; b: unknown url type: "),
        (["fit", "--trainer.callbacks", "foo"], "trainer.callbacks: cannot take foo"),
        (
            ["fit", "--trainer.accumulate_grad_batches", "0"],
            "trainer.accumulate_grad_batches: expected 1 or more, got 0",
        ),
        (["fit", "--data.timeout", "0"], "data.timeout: expected seconds above 0, got 0"),
        (["fit", "--seed_everything", "true"], "mnist-lit: seed_everything: expected a whole number"),
        (["fit", "--seed_everything", "-5"], "mnist-lit: seed_everything: expected a whole number"),
        ([*FIT, "--trainer.max_epochs", "0"], "nothing to train"),
        ([*FIT, "--trainer.limit_train_batches", "0"], "nothing to train"),
        ([*FIT, "--trainer.val_check_interval", "100"], "val_check_interval"),
        ([*FIT, "--trainer.max_time", "00:00:00:01", "--trainer.max_epochs", "-1"], "linear needs an end"),
        (
            [*FIT, "--data.anneal", "0.5", "--trainer.max_steps", "2"],
            "data.anneal: needs an end in epochs; set trainer.max_epochs",
        ),
        (["fit", "--data.dataset", "digits", "--data.val_size", "2000"], "expected less than the 1437 images"),
        (["test"], "nothing was trained in lightning_logs; run `mnist-lit fit` first"),
        (["validate", "--ckpt_path", "gone.ckpt"], "no model at gone.ckpt"),
        (["test", "--model", "gone.ckpt"], "no model at gone.ckpt"),
        (["predict", "a.png", "--modle", "x"], "unknown option modle; did you mean model?"),
        (["predict"], "the following arguments are required: PICTURE|FOLDER|-"),
        (["serve", "--port", "abc"], "argument --port: invalid int value: 'abc'"),
        (["export", "--model", "pretrained", "--output", "m.txt"], "expected a name that ends in .onnx, got m.txt"),
        (["compare", "version_0"], "the following arguments are required: RUN"),
        (["runs"], "no folder lightning_logs; nothing was trained here yet"),
        (["runs", "--deep"], "runs takes a folder, got --deep"),
        (["runs", "nowhere"], "no folder nowhere"),
        (["summary", "--deep"], "summary takes no options"),
        (["data", "--dataset", "mnits"], "no dataset mnits; did you mean mnist?"),
        (["data", "--deep"], "unknown option deep"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line_and_exit_code_2(cli: Cli, args: list[str], line: str) -> None:
    code, out, err = cli(*args)
    assert code == 2
    assert out == ""
    assert err.startswith("mnist-lit: ")
    assert line in err
    assert err.count("\n") == 1
    assert not list(Path("lightning_logs").glob("*"))  # no run folder is left behind


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"model: {learning_rate: 1}", "unknown option model.learning_rate; did you mean model.lr?"),
        (b"data: {batchsize: 3}", "unknown option data.batchsize; did you mean data.batch_size?"),
        (b"modle: {lr: 3}", "unknown option modle.lr; did you mean model.lr?"),
        (b"model: [1", "mine.yaml cannot be read as YAML"),
        (b"model: {lr: '\xff'}", "mine.yaml cannot be read as YAML"),
        (b"just words", "mine.yaml is no config"),
        (b"", "mine.yaml is no config"),
    ],
    ids=lambda value: value.decode("latin-1") if isinstance(value, bytes) else "",
)
def test_a_config_that_is_wrong_is_one_line(cli: Cli, text: bytes, line: str) -> None:
    Path("mine.yaml").write_bytes(text)
    code, out, err = cli("fit", "--config", "mine.yaml")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert line in err


def test_options_beat_configs_and_later_configs_earlier_ones_wherever_they_stand(cli: Cli) -> None:
    Path("a.yaml").write_text("model: {lr: 0.1, momentum: 0.1}\ndata:\n", encoding="utf-8")
    Path("b.yaml").write_text("# année\nmodel: {momentum: 0.2, gamma: 0.2}\n", encoding="utf-8")
    for args in (
        ["--model.lr", "0.3", "-c", "a.yaml", "--config=b.yaml"],
        ["-c=a.yaml", "-c", "b.yaml", "--model.lr=0.3"],
    ):
        code, out, err = cli("fit", *args, "--print_config")
        assert (code, err) == (0, "")
        model = yaml.safe_load(out)["model"]
        assert (model["lr"], model["momentum"], model["gamma"]) == (0.3, 0.2, 0.2)


def test_a_runs_own_config_repeats_it_and_takes_nothing_from_its_checkpoint(cli: Cli, trained: Path) -> None:
    config = str(trained / "config.yaml")
    assert cli("fit", "--config", config)[0] == 0
    one, two = (torch.load(f"lightning_logs/version_{n}/checkpoints/last.ckpt")["state_dict"] for n in range(2))
    assert all(one[name].equal(two[name]) for name in one)
    code, out, _ = cli("test", "--config", config, "--ckpt_path", str(trained / "checkpoints/last.ckpt"))
    assert code == 0
    assert out.startswith(f"test: {trained}/checkpoints/last.ckpt\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    program = [sys.executable, "-m", "mnist_lit", "--help"]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, run.stderr) == (1, "mnist-lit: [Errno 28] No space left on device\n")


def test_a_pipe_that_closes_is_no_error_to_speak_of() -> None:
    program = f"{shlex.quote(sys.executable)} -m mnist_lit --help | true"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    assert subprocess.run(program, shell=True, env=env, capture_output=True, check=True).stderr == b""


def test_debug_shows_the_traceback(cli: Cli) -> None:
    with pytest.raises(ValueError, match="unknown command"):
        cli("fitt", "--debug")


def test_a_fit_leaves_one_whole_run_folder(trained: Path) -> None:
    names = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert {"config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= names
    config = yaml.safe_load(trained.joinpath("config.yaml").read_text())
    assert config["model"]["lr"] == 0.03
    assert config["trainer"]["max_epochs"] == 1
    assert config["data"]["batch_size"] == 64
    with trained.joinpath("metrics.csv").open() as file:
        columns = csv.DictReader(file).fieldnames or []
    assert {"train/acc", "train/loss", "val/acc", "val/loss"} <= set(columns)


def test_tensorboard_and_the_csv_hold_the_same_scalars(cli: Cli) -> None:
    assert cli(*FIT, "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1")[0] == 0
    curves = EventAccumulator("lightning_logs/version_0").Reload()
    with Path("lightning_logs/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name, points in {
        "train/loss_step": 4,
        "lr": 4,
        "train/acc": 2,
        "train/loss": 2,
        "val/acc": 2,
        "val/loss": 2,
    }.items():
        in_csv = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        in_events = [(event.step, event.value) for event in curves.Scalars(name)]
        assert len(in_csv) == points
        assert in_events == [(step, pytest.approx(value)) for step, value in in_csv]


def test_a_fit_ends_with_a_table_and_what_to_type_next(cli: Cli) -> None:
    code, out, err = cli(*FIT, "--trainer.max_epochs", "2")
    assert code == 0
    assert err == ""
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert lines["fit:"] == "fit: lightning_logs/version_0"
    assert list(lines)[1:] == ["epochs", "time", "best", "checkpoint", "next", "curves"]
    assert "2  (4 steps)" in lines["epochs"]
    assert "images/s" in lines["time"]
    assert Path(lines["checkpoint"].split()[1]).is_file()
    assert lines["next"].split(maxsplit=1)[1] == "mnist-lit test"


def test_the_same_command_twice_gives_two_runs_with_the_same_scores(cli: Cli) -> None:
    for _ in range(2):
        assert cli(*FIT, "--trainer.max_epochs", "1")[0] == 0
    weights = [torch.load(f"lightning_logs/version_{n}/checkpoints/last.ckpt")["state_dict"] for n in range(2)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert cli(*FIT, "--trainer.max_epochs", "1", "--seed_everything", "1")[0] == 0
    other = torch.load("lightning_logs/version_2/checkpoints/last.ckpt")["state_dict"]
    assert not all(weights[0][name].equal(other[name]) for name in weights[0])


def test_a_checkpoint_says_what_it_is(trained: Path) -> None:
    content = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    said = content["mnist_lit"]
    assert yaml.safe_load(said["config"]) == yaml.safe_load(trained.joinpath("config.yaml").read_text())
    assert 0 <= said["scores"]["val/acc"] <= 1
    assert len(said["data"]) == 32
    assert content["hyper_parameters"]["lr"] == 0.03
    assert not [key for key in content["hyper_parameters"] if key.startswith("_")]


def test_test_takes_the_newest_runs_best_with_its_own_data(cli: Cli, trained: Path) -> None:
    code, out, err = cli("test")
    assert code == 0
    assert err == ""
    assert out.startswith(f"test: {trained}/checkpoints/best.ckpt\n")
    assert "images        360" in out
    with trained.joinpath("predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(360))
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert f"right         {right}\n" in out
    for row in rows:
        probs = [float(row[f"prob_{label}"]) for label in range(10)]
        assert sum(probs) == pytest.approx(1, abs=1e-5)
        assert max(probs) == probs[int(row["predicted"])]


def test_validate_repeats_the_runs_own_score(cli: Cli, trained: Path) -> None:
    scores = torch.load(trained / "checkpoints/best.ckpt")["mnist_lit"]["scores"]
    code, out, _ = cli("validate")
    assert code == 0
    assert f"val/acc       {scores['val/acc']:.2%}" in out
    assert "images        96" in out
    assert not trained.joinpath("predictions.csv").exists()


def test_explicit_options_beat_the_checkpoints_and_are_named(cli: Cli, trained: Path) -> None:
    code, out, _ = cli("validate", "--data.val_size", "200", "--data.batch_size", "64")
    assert code == 0
    assert "data.val_size: 200 instead of the checkpoint's 96\n" in out
    assert "batch_size" not in out
    assert "images        200" in out


def test_a_resumed_fit_goes_on_with_its_own_settings_but_for_explicit_ones(cli: Cli, trained: Path) -> None:
    last = str(trained / "checkpoints/last.ckpt")
    code, out, _ = cli("fit", "--ckpt_path", last, "--trainer.max_epochs", "3", "--model.momentum", "0.5")
    assert code == 0
    assert "model.momentum: 0.5 instead of the checkpoint's 0.9\n" in out
    assert "3  (6 steps)" in out
    config = yaml.safe_load(Path("lightning_logs/version_1/config.yaml").read_text())
    assert (config["model"]["lr"], config["model"]["momentum"]) == (0.03, 0.5)


def test_without_validation_the_last_counts_as_best(cli: Cli) -> None:
    args = ["fit", "--data.dataset", "digits", "--data.val_size", "0", "--data.batch_size", "1437"]
    code, out, err = cli(*args, "--trainer.max_epochs", "1")
    assert (code, err) == (0, "")
    assert "checkpoints/last.ckpt" in out
    assert "best val/acc  none: no validation" in out
    code, out, _ = cli("test")
    assert code == 0
    assert "last.ckpt" in out
    code, out, err = cli("validate")
    assert code == 2
    assert "validate had no images: data.val_size is 0" in err


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (["--trainer.max_steps", "3"], 3),
        (["--trainer.max_steps", "21"], 21),  # more than the epochs that are the default
        (["--trainer.num_sanity_val_steps", "1", "--trainer.max_epochs", "1"], 2),
        (["--trainer.log_every_n_steps", "0", "--trainer.max_epochs", "1"], 2),
        (["--trainer.precision", "bf16-mixed", "--trainer.max_epochs", "1"], 2),
        (["--trainer.precision", "bf16-true", "--trainer.max_epochs", "1", "--model.dropout", "0.1"], 2),
        (["--trainer.precision", "64-true", "--trainer.max_epochs", "1"], 2),
        (["--trainer.limit_train_batches", "1", "--trainer.max_epochs", "2"], 2),
        (["--trainer.limit_val_batches", "0", "--trainer.max_epochs", "1"], 2),
        (["--trainer.limit_val_batches", "2", "--trainer.max_epochs", "1"], 2),
        (["--trainer.overfit_batches", "1", "--trainer.max_epochs", "3"], 3),
        (["--trainer.accumulate_grad_batches", "2", "--trainer.max_epochs", "3"], 3),
        (["--trainer.max_time", "00:00:00:01", "--trainer.max_epochs", "10000"], None),
        (["--trainer.check_val_every_n_epoch", "5", "--trainer.max_epochs", "1"], 2),
        (["--trainer.val_check_interval", "0.5", "--trainer.max_epochs", "1"], 2),
        (["--trainer.logger", "false", "--trainer.max_epochs", "1"], 2),
        (["--trainer.enable_checkpointing", "false", "--trainer.max_epochs", "1"], 2),
    ],
    ids=lambda value: value[0].removeprefix("--trainer.") + "=" + value[1] if isinstance(value, list) else "",
)
def test_lightnings_own_switches_work(cli: Cli, options: list[str], steps: int | None) -> None:
    code, out, err = cli(*FIT, *options)
    assert (code, err) == (0, "")
    assert steps is None or f"({steps} steps)" in out
    run = Path("lightning_logs/version_0")
    assert (best_checkpoint(run) is None) == ("--trainer.enable_checkpointing" in options)
    assert run.joinpath("metrics.csv").exists() == ("--trainer.logger" not in options)
    assert run.joinpath("config.yaml").exists()
    if best_checkpoint(run):
        assert cli("test")[0] == 0


def test_overfit_batches_sees_the_same_images_each_epoch(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_lit.data.loaders import Batch

    seen: list[list[int]] = []
    step = MNISTModule.training_step

    def watched(self: MNISTModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        seen.append(batch.indices.tolist())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(MNISTModule, "training_step", watched)
    assert cli(*FIT, "--trainer.overfit_batches", "1", "--trainer.max_epochs", "3")[0] == 0
    assert seen[0] == seen[1] == seen[2]


def test_a_dry_run_leaves_nothing_behind(cli: Cli) -> None:
    code, out, err = cli(*FIT, "--trainer.fast_dev_run", "true")
    assert (code, err) == (0, "")
    assert "checkpoint    none" in out
    assert not list(Path.cwd().iterdir())


def test_runs_go_where_default_root_dir_says(cli: Cli) -> None:
    code, out, _ = cli(*FIT, "--trainer.max_epochs", "1", "--trainer.default_root_dir", "elsewhere")
    assert code == 0
    best = Path("elsewhere/lightning_logs/version_0/checkpoints/best.ckpt")
    assert best.is_file()
    assert f"next          mnist-lit test --ckpt_path {best}" in out
    assert not Path("lightning_logs").exists()
    code, out, _ = cli("test", "--trainer.default_root_dir", "elsewhere")
    assert code == 0
    assert out.startswith(f"test: {best}\n")


def test_annealed_warps_end_where_the_run_does(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    shares, shrunk = [], RandomAffine.shrunk

    def note(warp: RandomAffine, share: float) -> RandomAffine:
        shares.append(share)
        return shrunk(warp, share)

    monkeypatch.setattr(RandomAffine, "shrunk", note)
    fit = (*FIT, "--data.degrees", "15", "--data.anneal", "0.2")
    assert cli(*fit)[0] == 0  # of ten epochs, which are the default
    assert shares == pytest.approx([share for share in [1] * 5 + [0.84, 0.68, 0.52, 0.36, 0.2] for _ in range(2)])
    assert cli(*fit, "--trainer.max_epochs", "2")[0] == 0
    assert shares[20:] == pytest.approx([1, 1, 0.2, 0.2])
    last = "lightning_logs/version_1/checkpoints/last.ckpt"
    assert cli(*fit, "--ckpt_path", last, "--trainer.max_epochs", "4")[0] == 0
    assert shares[24:] == pytest.approx([0.6, 0.6, 0.2, 0.2])


def test_a_run_stopped_within_an_epoch_goes_on_exactly_there(cli: Cli) -> None:
    fit = ["fit", "--data.dataset", "digits", "--data.val_size", "1277", "--data.batch_size", "32"]  # 5 steps an epoch
    fit += ["--model.schedule", "constant", "--data.degrees", "15", "--trainer.max_epochs", "3"]
    assert cli(*fit)[0] == 0
    assert cli(*fit, "--trainer.max_steps", "7")[0] == 0
    last = "lightning_logs/version_1/checkpoints/last.ckpt"
    code, out, _ = cli(*fit, "--ckpt_path", last, "--trainer.max_steps", "-1")
    assert code == 0
    assert "3  (15 steps)" in out
    whole, stopped, resumed = (torch.load(f"lightning_logs/version_{n}/checkpoints/last.ckpt") for n in range(3))
    assert resumed["global_step"] == 15
    assert all(weight.equal(resumed["state_dict"][name]) for name, weight in whole["state_dict"].items())
    assert not all(weight.equal(stopped["state_dict"][name]) for name, weight in whole["state_dict"].items())


def test_a_run_goes_on_from_its_best_as_from_its_last(cli: Cli, trained: Path) -> None:
    for name in ("best", "last"):  # saved before the epoch's end, and at it
        code, _, err = cli("fit", "--ckpt_path", str(trained / f"checkpoints/{name}.ckpt"), "--trainer.max_epochs", "2")
        assert (code, err) == (0, "")
    best, last = (torch.load(f"lightning_logs/version_{n}/checkpoints/last.ckpt") for n in (1, 2))
    assert best["global_step"] == last["global_step"] == 4
    assert all(weight.equal(last["state_dict"][name]) for name, weight in best["state_dict"].items())


def test_a_finished_run_has_nothing_to_go_on_with(cli: Cli, trained: Path) -> None:
    code, _, err = cli("fit", "--ckpt_path", str(trained / "checkpoints/last.ckpt"))
    assert code == 2
    assert "nothing to train" in err
    assert len(list(Path("lightning_logs").iterdir())) == 1


@pytest.mark.parametrize(("option", "value"), [("optimizer", "adamw"), ("ema_decay", "0.9")])
def test_a_run_cannot_go_on_as_another(cli: Cli, trained: Path, option: str, value: str) -> None:
    last = str(trained / "checkpoints/last.ckpt")
    code, _, err = cli("fit", "--ckpt_path", last, f"--model.{option}", value, "--trainer.max_epochs", "2")
    assert (code, err.count("\n")) == (2, 1)
    assert f"model.{option}: a run with" in err


def test_a_resumed_run_that_never_beats_the_old_best_still_has_a_best_of_its_own(cli: Cli, trained: Path) -> None:
    last = trained / "checkpoints/last.ckpt"
    content = torch.load(last)
    content["best"] = [1.0, 0.0, 1]
    torch.save(content, last)
    code, out, _ = cli("fit", "--ckpt_path", str(last), "--trainer.max_epochs", "2")
    assert code == 0
    assert Path(out.partition("checkpoint ")[2].split()[0]).name == "best.ckpt"
    assert Path(out.partition("checkpoint ")[2].split()[0]).is_file()


def test_a_checkpoints_name_may_hold_an_equals_sign(cli: Cli, trained: Path) -> None:
    trained.joinpath("checkpoints/best.ckpt").rename("epoch=1-step=2.ckpt")
    for args in (["--ckpt_path", "epoch=1-step=2.ckpt"], ["--ckpt_path=epoch=1-step=2.ckpt"]):
        code, out, _ = cli("validate", *args)
        assert code == 0
        assert out.startswith("validate: epoch=1-step=2.ckpt\n")


@pytest.mark.parametrize(
    "config",
    ["", "[1", "model: 3", "{}", "- 1", "seed_everything: 0\nmodel: {}\ndata: {}\n"],
)
def test_a_checkpoint_with_a_damaged_configuration_is_refused(cli: Cli, trained: Path, config: str) -> None:
    content = torch.load(trained / "checkpoints/best.ckpt")
    content["mnist_lit"]["config"] = config
    torch.save(content, "damaged.ckpt")
    code, _, err = cli("test", "--ckpt_path", "damaged.ckpt")
    assert (code, err.count("\n")) == (2, 1)
    assert "damaged" in err


def test_a_checkpoints_configuration_imports_nothing(cli: Cli, trained: Path) -> None:
    content = torch.load(trained / "checkpoints/last.ckpt")
    config = yaml.safe_load(content["mnist_lit"]["config"])
    for key, value in (("callbacks", [{"class_path": "this.X"}]), ("logger", "this.X"), ("profiler", "this.X")):
        config["trainer"][key] = value
    content["mnist_lit"]["config"] = yaml.safe_dump(config)
    torch.save(content, "hostile.ckpt")
    sys.modules.pop("this", None)
    assert cli("fit", "--ckpt_path", "hostile.ckpt", "--trainer.max_epochs", "2")[0] == 0
    assert "this" not in sys.modules


@pytest.mark.parametrize("part", ["loops", "optimizer_states", "train_scores", "best", "state_dict"])
def test_a_checkpoint_with_a_part_missing_or_odd_is_one_line(cli: Cli, trained: Path, part: str) -> None:
    whole = torch.load(trained / "checkpoints/last.ckpt")
    for content in ({name: value for name, value in whole.items() if name != part}, {**whole, part: {"odd": 3}}):
        torch.save(content, "odd.ckpt")
        code, _, err = cli("fit", "--ckpt_path", "odd.ckpt", "--trainer.max_epochs", "2")
        assert (code, err.count("\n")) == (2, 1) or (part == "best" and code == 0), err
    assert len(all_runs(Path("lightning_logs"))) == (3 if part == "best" else 1)


def test_a_limited_test_does_not_replace_the_whole_ones_predictions(cli: Cli, trained: Path) -> None:
    assert cli("test")[0] == 0
    before = trained.joinpath("predictions.csv").read_bytes()
    code, out, _ = cli("test", "--trainer.limit_test_batches", "1")
    assert code == 0
    assert "predictions" not in out
    assert trained.joinpath("predictions.csv").read_bytes() == before


def test_the_next_command_can_be_pasted_also_where_a_folder_has_a_space(cli: Cli) -> None:
    code, out, _ = cli(*FIT, "--trainer.max_epochs", "1", "--trainer.default_root_dir", "my runs")
    assert code == 0
    command = shlex.split(out.partition("next ")[2].splitlines()[0])
    assert cli(*command[1:])[0] == 0


def test_a_place_where_no_run_folder_can_be_made_is_named(cli: Cli) -> None:
    Path("lightning_logs").write_text("a file")
    code, _, err = cli(*FIT, "--trainer.max_epochs", "1")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot make a run folder in lightning_logs" in err


def test_summary_prints_the_table(cli: Cli) -> None:
    code, out, _ = cli("summary")
    assert code == 0
    assert "593,200" in out
    assert out.count("\n") == 11


def test_data_says_what_is_there(cli: Cli) -> None:
    code, out, _ = cli("data", "--dataset", "digits")
    assert code == 0
    assert cli("data", "--data.dataset", "digits", "--data.data_dir", "nowhere")[1] == out
    assert "1,437 images of 28×28, 10 classes" in out
    assert "360 images" in out


def images_of(run: str) -> dict[str, list[int]]:
    """The steps of each picture in a run's TensorBoard."""
    events = EventAccumulator(run, size_guidance={"images": 0}).Reload()
    return {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}


def test_figures_are_drawn_and_change_nothing(cli: Cli) -> None:
    for figures in ("true", "false"):
        assert cli(*FIT, "--trainer.max_epochs", "2", "--figures", figures)[0] == 0
    assert images_of("lightning_logs/version_0") == {
        "training images": [0],
        "validation/confusion matrix": [2, 4],
        "validation/worst mistakes": [2, 4],
    }
    assert images_of("lightning_logs/version_1") == {}
    one, two = (torch.load(f"lightning_logs/version_{n}/checkpoints/last.ckpt")["state_dict"] for n in range(2))
    assert all(one[name].equal(two[name]) for name in one)


def test_the_worst_mistakes_are_the_validations_own(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_lit.evaluation import figures
    from mnist_lit.evaluation.figures import gallery

    drawn: list[tuple[np.ndarray, list[str]]] = []
    gallery = gallery

    def watched(images: np.ndarray, captions: list[str], *, columns: int) -> np.ndarray:
        drawn.append((images, captions))
        return gallery(images, captions, columns=columns)

    monkeypatch.setattr(figures, "gallery", watched)
    assert cli(*FIT, "--trainer.max_epochs", "1")[0] == 0
    content = torch.load("lightning_logs/version_0/checkpoints/best.ckpt")
    data = MNISTDataModule(dataset="digits", val_size=96, batch_size=64)
    data.setup()
    assert data.digits is not None
    model = MNISTModule()
    model.load_state_dict(content["state_dict"])
    model.eval()
    with torch.no_grad():
        log_probs = model(data.digits.train_images[data.val_indices])
    labels = data.digits.train_labels[data.val_indices]
    loss = -log_probs[torch.arange(len(labels)), labels].double()
    loss[log_probs.argmax(dim=1) == labels] = -1
    worst = loss.argsort(descending=True)[:24]
    images, captions = drawn[-1]
    assert len(captions) == 24
    assert torch.from_numpy(images).equal(data.digits.train_images[data.val_indices[worst]])
    for place, caption in zip(worst, captions, strict=True):
        said = int(log_probs[place].argmax())
        prob = float(log_probs[place].exp().max())
        assert caption == f"true {labels[place]}, said {said}\n{prob:.1%}  #{data.val_indices[place]}"


def test_tensorboard_compares_runs_by_settings_and_scores(cli: Cli, trained: Path) -> None:
    assert cli("test")[0] == 0
    events = EventAccumulator(str(trained)).Reload()
    contents = events.summary_metadata
    start = HParamsPluginData.FromString(contents["_hparams_/session_start_info"].plugin_data.content)
    assert start.session_start_info.hparams["lr"].number_value == 0.03
    assert start.session_start_info.hparams["dataset"].string_value == "digits"
    experiment = HParamsPluginData.FromString(contents["_hparams_/experiment"].plugin_data.content).experiment
    metrics = {(metric.name.group, metric.name.tag) for metric in experiment.metric_infos}
    assert {("", "best/val_acc"), ("", "train/images_per_second"), ("test", "test/acc")} <= metrics
    scores = torch.load(trained / "checkpoints/best.ckpt")["mnist_lit"]["scores"]
    assert events.Scalars("best/val_acc")[-1].value == pytest.approx(scores["val/acc"])
    tested = EventAccumulator(str(trained / "test")).Reload()
    with trained.joinpath("predictions.csv").open() as file:
        right = sum(row["label"] == row["predicted"] for row in csv.DictReader(file))
    assert [(event.step, event.value) for event in tested.Scalars("test/acc")] == [(2, pytest.approx(right / 360))]


def test_images_per_second_count_training_and_neither_validation_nor_figures(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("mnist_lit.callbacks.tables.time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def slow(owner: type, name: str, seconds: float) -> None:
        method = getattr(owner, name)

        def slowed(*args: Any, **kwargs: Any) -> Any:
            clock[0] += seconds
            return method(*args, **kwargs)

        monkeypatch.setattr(owner, name, slowed)

    slow(MNISTModule, "training_step", 2)
    slow(MNISTModule, "validation_step", 50)
    slow(TensorBoardFigures, "on_validation_end", 70)
    code, out, _ = cli(*FIT, "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1")
    assert code == 0
    assert "(32 images/s while training)" in out
    events = EventAccumulator("lightning_logs/version_0").Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/images_per_second")] == [(n, 32) for n in range(4)]


def test_keep_epochs_keeps_each(cli: Cli) -> None:
    assert cli(*FIT, "--trainer.max_epochs", "2", "--keep_epochs", "true")[0] == 0
    folder = Path("lightning_logs/version_0/checkpoints")
    names = {"best.ckpt", "last.ckpt", "previous.ckpt", "epoch_1.ckpt", "epoch_2.ckpt"}
    assert {path.name for path in folder.iterdir()} == names
    first, second, last = (torch.load(folder / f"{name}.ckpt") for name in ("epoch_1", "epoch_2", "last"))
    assert (first["global_step"], second["global_step"]) == (2, 4)
    assert all(last["state_dict"][name].equal(weights) for name, weights in second["state_dict"].items())


def test_a_resumed_run_goes_on_keeping_its_epochs_and_asks_no_address_of_a_file(cli: Cli) -> None:
    options = ["--keep_epochs", "true", "--data.mirrors", "http://127.0.0.1:9"]
    assert cli(*FIT, "--trainer.max_epochs", "1", *options)[0] == 0
    last = "lightning_logs/version_0/checkpoints/last.ckpt"
    assert cli("fit", "--ckpt_path", last, "--trainer.max_epochs", "2")[0] == 0
    assert Path("lightning_logs/version_1/checkpoints/epoch_2.ckpt").exists()
    assert "127.0.0.1" not in Path("lightning_logs/version_1/config.yaml").read_text()


def test_weights_far_out_are_seen_by_validation_before_they_are_saved(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = MNISTModule.optimizer_step

    def thrown(self: MNISTModule, *args: Any, **kwargs: Any) -> None:
        step(self, *args, **kwargs)
        if self.trainer.global_step == 3:
            with torch.no_grad():
                for weights in self.network.parameters():
                    weights.mul_(1e9)

    monkeypatch.setattr(MNISTModule, "optimizer_step", thrown)
    code, _, err = cli(*FIT, "--trainer.max_epochs", "2")
    assert code == 2
    assert "val/loss is nan at step 4, in epoch 2" in err
    assert torch.load("lightning_logs/version_0/checkpoints/last.ckpt")["global_step"] == 2


def test_a_loss_that_becomes_nan_stops_the_fit_and_keeps_the_last_good_weights(cli: Cli, trained: Path) -> None:
    code, _, err = cli(*FIT, "--trainer.max_epochs", "3", "--model.lr", "1e30")
    assert (code, err.count("\n")) == (2, 1)
    assert "the loss is nan at step " in err
    assert "lower model.lr, which is 1e+30 (no checkpoint was saved yet)" in err
    # a run that was well for an epoch
    schedule = ["--model.schedule", "step", "--model.step_size", "1", "--model.gamma", "1e9"]
    code, _, err = cli(*FIT, "--trainer.max_epochs", "9", "--model.lr", "0.03", *schedule)
    assert code == 2
    assert "(lightning_logs/version_2/checkpoints/best.ckpt was saved before)" in err
    for name in ("best", "last"):
        content = torch.load(f"lightning_logs/version_2/checkpoints/{name}.ckpt")
        assert content["epoch"] == 0
        assert all(weights.isfinite().all() for weights in content["state_dict"].values())
    assert cli("test")[0] == 0


def test_weights_that_are_not_finite_are_never_saved(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    step = MNISTModule.optimizer_step

    def spoilt(self: MNISTModule, *args: Any, **kwargs: Any) -> None:
        step(self, *args, **kwargs)
        if self.trainer.global_step == 3:  # the second epoch's last: no loss is computed with these weights
            with torch.no_grad():
                self.network.fc2.bias[3] = torch.nan

    monkeypatch.setattr(MNISTModule, "optimizer_step", spoilt)
    code, _, err = cli(*FIT, "--trainer.max_epochs", "2", "--data.val_size", "0")
    assert code == 2
    assert "weights are not finite at step 4, in epoch 2" in err
    for path in Path("lightning_logs/version_0/checkpoints").iterdir():
        content = torch.load(path)
        assert content["global_step"] == 2
        assert all(weights.isfinite().all() for weights in content["state_dict"].values())


def test_the_data_is_told_the_trainers_device(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def note(data: MNISTDataModule) -> None:
        told.append(data.device)
        raise InputError("enough")

    monkeypatch.setattr(MNISTDataModule, "prepare_data", note)
    monkeypatch.setattr("lightning.pytorch.strategies.SingleDeviceStrategy.root_device", torch.device("meta"))
    assert cli("fit", "--config", "quickstart")[0] == 2
    assert [device.type for device in told] == ["meta"]
