"""A sweep's trials are shared by processes, continued after a kill, pruned or failed."""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import optuna
import pytest
import yaml
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution

from mnist_lit.errors import InputError
from mnist_lit.experiments.space import Range
from mnist_lit.experiments.study import Study
from mnist_lit.experiments.sweep import check_space
from mnist_lit.runs.folders import FINISHED_MARK
from mnist_lit.runs.results import read_validations
from mnist_lit.system.csv_file import read_csv
from mnist_lit.system.folder_lock import LOCK

Cli = Callable[..., tuple[int, str, str]]
FOLDER = Path("lightning_logs/sweep_quickstart")
SPACE = "model.lr: {low: 0.001, high: 0.01, log: true}\n"
QUICK = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--figures", "false")
SECRET = "s3cr/et"
URL = "postgresql://me:s3cr%2Fet@127.0.0.1:1/studies"


def sweep(*options: str, text: str = SPACE, quick: tuple[str, ...] = QUICK) -> list[str]:
    """Write the space; returns the arguments of a sweep of it."""
    Path("space.yaml").write_text(text)
    return ["sweep", "--config", "quickstart", "--space", "space.yaml", *options, *quick]


def start(args: list[str]) -> subprocess.Popen[str]:
    """Start it in a subprocess."""
    program = [sys.executable, "-m", "mnist_lit", *args]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


FAKE_FIT = """
import os, pathlib, sys, time
args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
run, lr = pathlib.Path(args["--run"]), float(args["--model.lr"])
if lr < 0:
    print("mnist-lit: lr: expected more than 0", file=sys.stderr)
    sys.exit(2)
if lr > 1:
    os.kill(os.getpid(), 9)
with run.joinpath("metrics.csv").open("w", buffering=1) as file:
    print("epoch,val/acc,val/loss", file=file)
    for epoch in range(20):
        print(f"{epoch},{0.1 if lr < 1e-6 else 0.9},1", file=file)
        time.sleep(60 if lr == 1e-9 and epoch == 12 else 0.02)  # that one waits to be pruned
"""
Started = list[tuple[list[str], dict[str, str]]]


@pytest.fixture
def fake_fits(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Fits that take half a second and train nothing; the arguments and environments that they got."""
    started: Started = []

    def start(command: str, args: list[str], **popen: Any) -> subprocess.Popen[bytes]:
        started.append(([*args], popen["env"]))
        return subprocess.Popen([sys.executable, "-c", FAKE_FIT, *args], **popen)

    def print_config(command: str, args: list[str], *, env: dict[str, str], stdout: IO[bytes], stderr: Any) -> int:
        started.append(([*args], env))
        given = dict(pairwise(args))
        config = {
            "data": {"val_size": int(given.get("--data.val_size", "180"))},
            "trainer": {"max_epochs": int(given["--trainer.max_epochs"]) if "--trainer.max_epochs" in given else None},
            "model": {"lr": float(given["--model.lr"])},
        }
        stdout.write(yaml.safe_dump(config).encode())
        return 0

    monkeypatch.setattr("mnist_lit.experiments.sweep.start_command", start)
    monkeypatch.setattr("mnist_lit.experiments.sweep.run_command", print_config)
    monkeypatch.setattr("mnist_lit.experiments.sweep.POLL", 0.02)
    return started


def table() -> list[dict[str, str]]:
    """`trials.csv`."""
    return list(read_csv(FOLDER / "trials.csv"))


def wait_for(found: Callable[[], Any], seconds: float = 300) -> Any:
    """Wait until `found` returns something true, and return that."""
    end = time.monotonic() + seconds
    while not (thing := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return thing


def children_of(process: subprocess.Popen[str]) -> list[int]:
    """The process IDs of its fits."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in pids.split()]


@pytest.mark.slow  # 15 s
def test_a_killed_sweep_continues_its_trial(cli: Cli) -> None:
    quick = ("--trainer.max_epochs", "2", "--trainer.limit_train_batches", "6", "--figures", "false")
    process = start(sweep("--trials", "1", quick=quick))
    run = FOLDER / "trial_0"
    wait_for(run.joinpath("checkpoints/last.ckpt").exists)
    process.kill()
    process.communicate()
    with FileLock(run / LOCK, timeout=60):  # until its fit has stopped, the trial is still running
        begun = run.joinpath("config.yaml").stat().st_mtime_ns
    code, out, err = cli(*sweep("--trials", "1", quick=quick))
    assert (code, err) == (0, "")
    (row,) = table()
    assert (row["trial"], row["state"]) == ("0", "complete")
    assert run.joinpath(FINISHED_MARK).exists()
    assert run.joinpath("config.yaml").stat().st_mtime_ns == begun
    assert yaml.safe_load(run.joinpath("config.yaml").read_text())["model"]["lr"] == float(row["model.lr"])
    validations = read_validations(run)
    assert [found.epoch for found in validations] == [1, 2]
    assert max(found.acc for found in validations) == float(row["val_acc"])
    assert f"mnist-lit fit --config quickstart {' '.join(quick)} --model.lr {row['model.lr']}\n" in out
    assert [path.name for path in FOLDER.iterdir() if path.is_dir()] == ["trial_0"]


@pytest.mark.slow
def test_two_processes_share_eight_trials_and_a_kill_loses_none(cli: Cli) -> None:
    args = sweep("--trials", "8", quick=("--trainer.max_epochs", "3"))
    first, second = start(args), start(args)
    run = wait_for(lambda: [path for path in FOLDER.glob("trial_*") if path.joinpath("checkpoints/last.ckpt").exists()])
    config = run[0].joinpath("config.yaml").stat().st_mtime_ns
    victims = [process for process in (first, second) if children_of(process)]
    for process in victims[:1]:
        (fit,) = children_of(process)
        os.kill(fit, signal.SIGKILL)
        process.kill()
        process.communicate()
    assert cli(*args)[0] == 0
    for process in (first, second):
        process.communicate()
    assert cli(*args)[0] == 0  # what the process that ended first may have left to the other
    rows = table()
    assert sorted(int(row["trial"]) for row in rows) == [*range(8)]
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert sorted(path.name for path in FOLDER.glob("*_*")) == [f"trial_{number}" for number in range(8)]
    assert run[0].joinpath("config.yaml").stat().st_mtime_ns == config  # none was started again
    for row in rows:
        epochs = [found.epoch for found in read_validations(FOLDER / f"trial_{row['trial']}")]
        assert epochs == [1, 2, 3][: len(epochs)]
        assert row["state"] == "pruned" or len(epochs) == 3


@pytest.mark.slow
def test_an_interrupted_sweep_has_saved_and_its_trial_waits() -> None:
    process = start(sweep("--trials", "1", quick=("--trainer.max_epochs", "50", "--figures", "false")))
    last = FOLDER / "trial_0/checkpoints/last.ckpt"
    wait_for(last.exists)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "mnist-lit: stopped by SIGINT (repeat the command to continue)\n")
    assert "trial 0: stopped" in out
    assert table()[0]["state"] == "waiting"
    with FileLock(FOLDER / "trial_0/.lock", timeout=0):  # no fit is left
        pass


def prepared_study(lrs: list[float]) -> optuna.Study:
    """The sweep's study with five good trials, and settings to try next."""
    study = Study("quickstart", FOLDER).optuna_study
    values: dict[str, BaseDistribution] = {"model.lr": CategoricalDistribution([0.003, 1e-9, 2e-9, -1.0])}
    good = dict.fromkeys(range(1, 9), 0.5)
    for _ in range(5):
        params = {"model.lr": 0.003}
        study.add_trial(optuna.create_trial(value=0.5, params=params, distributions=values, intermediate_values=good))
    for lr in lrs:
        study.enqueue_trial({"model.lr": lr})
    return study


LRS = "model.lr: [0.003, 0.000000001, 0.000000002, -1.0]\n"


def test_only_a_trial_that_does_not_learn_is_pruned(cli: Cli, fake_fits: Started) -> None:
    study = prepared_study([1e-9, 0.003])
    code, out, err = cli(*sweep("--trials", "7", text=LRS))
    assert (code, err) == (0, "")
    bad, good = study.trials[5:]
    assert (bad.state.name, good.state.name) == ("PRUNED", "COMPLETE")
    assert 3 <= len(bad.intermediate_values) < 20
    assert len(good.intermediate_values) == 20
    assert "trial 5: pruned" in out


def test_without_pruning_every_trial_completes(cli: Cli, fake_fits: Started) -> None:
    study = prepared_study([2e-9])
    assert cli(*sweep("--trials", "6", "--no-prune", text=LRS))[0] == 0
    assert (study.trials[5].state.name, len(study.trials[5].intermediate_values)) == ("COMPLETE", 20)


@pytest.mark.slow
def test_a_pruned_fit_has_saved(cli: Cli) -> None:
    study = prepared_study([1e-9])
    quick = ("--trainer.max_epochs", "30", "--figures", "false")
    assert cli(*sweep("--trials", "6", text=LRS, quick=quick))[0] == 0
    assert study.trials[5].state.name == "PRUNED"
    run = FOLDER / "trial_5"
    assert run.joinpath("checkpoints/last.ckpt").exists()
    assert not run.joinpath(FINISHED_MARK).exists()


def test_another_seed_chooses_other_settings_and_the_sweep_lies_beside_the_other_runs(
    cli: Cli, fake_fits: Started
) -> None:
    rates = set()
    for seed in ("0", "1"):
        options = ("--trials", "1", "--no-prune", "--study", seed, "--seed", seed)
        assert cli(*sweep(*options, "--trainer.default_root_dir", "elsewhere"))[0] == 0
        rates |= {row["model.lr"] for row in read_csv(Path(f"elsewhere/lightning_logs/sweep_{seed}/trials.csv"))}
    assert len(rates) == 2


def test_a_failed_trial_does_not_end_the_sweep(cli: Cli, fake_fits: Started) -> None:
    prepared_study([-1.0, 0.003])
    code, out, err = cli(*sweep("--trials", "7", text=LRS))
    assert (code, err) == (0, "")
    assert "trial 5: failed: lr: expected more than 0" in out
    rows = {row["trial"]: (row["state"], row["reason"]) for row in table()}
    assert (rows["5"], rows["6"]) == (("failed", "lr: expected more than 0"), ("complete", ""))


def test_a_killed_fit_is_a_failed_trial(cli: Cli, fake_fits: Started) -> None:
    code, _, _ = cli(*sweep("--trials", "1", text="model.lr: [9.0]"))
    assert code == 1  # no trial has a score
    assert [(row["state"], row["reason"]) for row in table()] == [("failed", "killed by SIGKILL")]


def test_a_sweep_of_lists_ends_when_every_combination_was_tried(cli: Cli, fake_fits: Started) -> None:
    text = "model.lr: [0.1, 0.2]"
    code, out, err = cli(*sweep("--trials", "1", text=text))
    assert (code, err, "every combination" in out) == (0, "", False)
    for _ in range(2):
        code, out, err = cli(*sweep("--trials", "3", text=text))
        assert (code, err) == (0, "")
        assert "sweep: every combination of the space has its trial, so there are 2, not 3\n" in out
    assert sorted(row["model.lr"] for row in table()) == ["0.1", "0.2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.lrr: [1]", "unknown option --model.lrr; did you mean --model.lr?"),
        ("resume: [auto]", "resume cannot be in a space"),
        ("trainer.max_epochs: [1, 2]", "--trainer.max_epochs cannot be combined with this sweep"),
    ],
)
def test_a_space_that_fit_refuses_is_refused_before_any_trial(cli: Cli, text: str, message: str) -> None:
    code, _, err = cli(*sweep(text=text))
    assert (code, err.count("\n"), message in err) == (2, 1, True), err
    assert not FOLDER.exists()


def test_integer_bounds_of_a_float_option_become_floats() -> None:
    given: dict[str, Range | list[Any]] = {"data.degrees": Range(0, 15), "data.batch_size": Range(32, 64)}
    _, typed = check_space(["--config", "quickstart"], given)
    assert [type(number) for name in given for number in typed[name][:2]] == [float, float, int, int]


def test_a_sweep_draws_floats_and_refuses_a_study_of_integers(cli: Cli, fake_fits: Started) -> None:
    text = "model.lr: {low: 0, high: 1}"
    assert cli(*sweep("--trials", "1", text=text))[0] == 0
    (options,) = [args for args, _ in fake_fits if "--print_config" not in args]
    assert 0 < float(options[options.index("--model.lr") + 1]) < 1
    Study("old", FOLDER.with_name("sweep_old")).setdefault("space", {"model.lr": Range(0, 1)._asdict()})
    code, _, err = cli(*sweep("--study", "old", text=text))
    assert (code, "begun with model.lr {'low': 0, " in err) == (2, True)


def test_a_recipe_without_validation_is_refused(cli: Cli, fake_fits: Started) -> None:
    code, _, err = cli(*sweep(quick=("--data.val_size", "0")))
    assert (code, "--data.val_size 5000" in err) == (2, True)


def test_a_study_has_one_recipe_and_one_space(cli: Cli, fake_fits: Started) -> None:
    assert cli(*sweep("--trials", "0"))[0] == 1
    code, _, err = cli(*sweep("--trials", "0", text="model.lr: [0.1]"))
    assert (code, "begun with model.lr {'low': 0.001" in err) == (2, True)
    code, _, err = cli(*sweep("--trials", "0", quick=("--trainer.max_epochs", "2")))
    assert (code, "begun with trainer.max_epochs 1, not 2" in err) == (2, True)
    code, _, err = cli(*sweep("--trials", "0", quick=()))
    assert (code, "begun with trainer.max_epochs 1, which is not set here" in err) == (2, True)
    assert cli(*sweep("--trials", "0", "--study", "endless", quick=()))[0] == 1
    code, _, err = cli(*sweep("--trials", "0", "--study", "endless"))
    assert (code, "begun without trainer.max_epochs, which is 1 here" in err) == (2, True)


def test_a_database_needs_no_journal_and_its_url_is_never_written(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, fake_fits: Started
) -> None:
    monkeypatch.setenv("MNIST_LIT_STORAGE", "sqlite:///hush.db?timeout=23")
    code, out, err = cli(*sweep("--trials", "1"))
    assert (code, err, "hush" in out) == (0, "", False)
    code, out, err = cli(*sweep("--trials", "2", "--storage", "sqlite:///hush.db?timeout=23"))
    assert (code, err, "hush" in out) == (0, "", False)
    assert len(table()) == 2
    assert not FOLDER.joinpath("journal.log").exists()
    assert not [text for args, env in fake_fits for text in (*args, *env.values()) if "hush" in text]
    assert len(fake_fits) == 4
    assert not [path for path in Path().rglob("*") if path.is_file() and b"hush" in path.read_bytes()]


def test_an_unusable_database_is_one_line_without_its_password(cli: Cli, fake_fits: Started) -> None:
    code, out, err = cli(*sweep("--storage", URL))
    assert (code, err.count("\n")) == (2, 1)
    assert "--storage: cannot use postgresql://…" in err
    with pytest.raises(InputError) as caught:
        cli(*sweep("--storage", URL, "--debug"))
    shown = out + err + "".join(traceback.format_exception(caught.value))
    assert not [secret for secret in (SECRET, "s3cr", "%2Fet") if secret in shown]
    assert not [path for path in Path().rglob("*") if path.is_file() and b"s3cr" in path.read_bytes()]
