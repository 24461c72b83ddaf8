"""A sweep's trials: shared by processes, gone on with after a kill, pruned, failed, and no password anywhere."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from filelock import FileLock

from mnist_lit import records, runs, space
from mnist_lit.errors import InputError
from mnist_lit.records import Validation
from mnist_lit.space import Between
from mnist_lit.study import Study, masked, reported

Cli = Callable[..., tuple[int, str, str]]
FOLDER = Path("lightning_logs/sweep_quickstart")
SPACE = "model.lr: {low: 0.001, high: 0.01, log: true}\n"
QUICK = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--figures", "false")
SECRET = "s3cr/et"
URL = "postgresql://me:s3cr%2Fet@127.0.0.1:1/studies"


def sweep(*options: str, text: str = SPACE, quick: tuple[str, ...] = QUICK) -> list[str]:
    """A sweep's arguments, its space's file written."""
    Path("space.yaml").write_text(text)
    return ["sweep", "--config", "quickstart", "--space", "space.yaml", *options, *quick]


def begin(args: list[str]) -> subprocess.Popen[str]:
    """The same in a process of its own."""
    program = [sys.executable, "-m", "mnist_lit", *args]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def table() -> list[dict[str, str]]:
    """`trials.csv`."""
    with FOLDER.joinpath("trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def wait_for(found: Callable[[], Any], seconds: float = 60) -> Any:
    """What is found once there is something."""
    end = time.monotonic() + seconds
    while not (thing := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return thing


def children_of(process: subprocess.Popen[str]) -> list[int]:
    """Its fits."""
    said = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in said.split()]


def test_a_trial_is_a_run_of_its_settings_and_the_study_says_which_was_best(cli: Cli) -> None:
    code, out, err = cli(*sweep("--trials", "2"))
    assert (code, err) == (0, "")
    rows = table()
    assert [row["state"] for row in rows] == ["complete", "complete"]
    assert float(rows[0]["val_acc"]) >= float(rows[1]["val_acc"])
    for row in rows:
        run = FOLDER / f"trial_{row['trial']}"
        assert run.joinpath(runs.FINISHED).exists()
        config = yaml.safe_load(run.joinpath("config.yaml").read_text())
        assert config["model"]["lr"] == float(row["model.lr"])
        assert max(found.acc for found in records.validations(run)) == float(row["val_acc"])
    assert rows[0]["model.lr"] != rows[1]["model.lr"]
    assert f"mnist-lit fit --config quickstart {' '.join(QUICK)} --model.lr {rows[0]['model.lr']}" in out
    assert not [path for path in FOLDER.iterdir() if path.is_dir() and not path.name.startswith("trial_")]


@pytest.mark.slow
def test_two_processes_share_eight_trials_and_a_kill_loses_none(cli: Cli) -> None:
    args = sweep("--trials", "8", quick=("--trainer.max_epochs", "3"))
    first, second = begin(args), begin(args)
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
    assert cli(*args)[0] == 0  # whatever the one that ended first had left to the other
    rows = table()
    assert sorted(int(row["trial"]) for row in rows) == [*range(8)]
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert sorted(path.name for path in FOLDER.glob("*_*")) == [f"trial_{number}" for number in range(8)]
    assert run[0].joinpath("config.yaml").stat().st_mtime_ns == config  # none was begun anew
    for row in rows:
        epochs = [found.epoch for found in records.validations(FOLDER / f"trial_{row['trial']}")]
        assert epochs == [1, 2, 3][: len(epochs)]
        assert row["state"] == "pruned" or len(epochs) == 3


def test_a_sweep_that_is_killed_goes_on_with_its_trial(cli: Cli) -> None:
    args = sweep("--trials", "1", quick=("--trainer.max_epochs", "2", "--figures", "false"))
    process = begin(args)
    last = FOLDER / "trial_0/checkpoints/last.ckpt"
    wait_for(last.exists)
    process.kill()
    process.communicate()
    config = FOLDER.joinpath("trial_0/config.yaml").stat().st_mtime_ns
    code, out, _ = cli(*args)
    assert code == 0
    assert "trial 0: best val/acc" in out
    assert [(row["trial"], row["state"]) for row in table()] == [("0", "complete")]
    assert FOLDER.joinpath("trial_0/config.yaml").stat().st_mtime_ns == config
    assert [found.epoch for found in records.validations(FOLDER / "trial_0")] == [1, 2]


def test_a_sweep_that_is_told_to_stop_has_saved_and_puts_its_trial_back() -> None:
    process = begin(sweep("--trials", "1", quick=("--trainer.max_epochs", "50", "--figures", "false")))
    last = FOLDER / "trial_0/checkpoints/last.ckpt"
    wait_for(last.exists)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "mnist-lit: stopped by SIGINT (the same command goes on)\n")
    assert "trial 0: stopped" in out
    assert table()[0]["state"] == "waiting"
    with FileLock(FOLDER / "trial_0/.lock", timeout=0):  # no fit is left
        pass


def a_study(lrs: list[Any]) -> optuna.Study:
    """The sweep's study, with five trials that learnt well, and settings that are to be tried next."""
    study = Study("quickstart", FOLDER)
    distributions = {"model.lr": optuna.distributions.CategoricalDistribution([0.003, 1e-9])}
    good = dict.fromkeys(range(1, 9), 0.5)
    for _ in range(5):
        study.optuna.add_trial(
            optuna.create_trial(
                value=0.5, params={"model.lr": 0.003}, distributions=distributions, intermediate_values=good
            )
        )
    for lr in lrs:
        study.optuna.enqueue_trial({"model.lr": lr})
    return study.optuna


def test_what_does_not_learn_is_pruned_and_what_learns_is_not(cli: Cli) -> None:
    study = a_study([1e-9, 0.003])
    args = sweep("--trials", "7", text="model.lr: [0.003, 0.000000001]\n", quick=("--trainer.max_epochs", "5"))
    code, out, _ = cli(*args, "--figures", "false")
    assert code == 0
    bad, good = study.trials[5:]
    assert (bad.state.name, good.state.name) == ("PRUNED", "COMPLETE")
    assert 3 <= len(bad.intermediate_values) < 5
    assert len(good.intermediate_values) == 5
    assert not FOLDER.joinpath("trial_5", runs.FINISHED).exists()
    assert "trial 5: pruned" in out


def test_a_trial_that_fails_costs_itself_alone(cli: Cli) -> None:
    code, out, err = cli(*sweep("--trials", "2", text="model.lr: [-1.0, 0.003]\n", quick=QUICK), "--seed", "1")
    states = {row["model.lr"]: (row["state"], row["reason"]) for row in table()}
    assert states["-1.0"][0] == "failed"
    assert "lr" in states["-1.0"][1]
    assert states["0.003"] == ("complete", "")
    assert (code, err) == (0, "")
    assert "failed" in out


def test_a_fit_that_is_killed_is_a_failed_trial() -> None:
    process = begin(sweep("--trials", "1", quick=("--trainer.max_epochs", "50")))
    (fit,) = wait_for(lambda: FOLDER.joinpath("trial_0/config.yaml").exists() and children_of(process))
    os.kill(fit, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == 1  # no trial has a score
    assert [(row["state"], row["reason"]) for row in table()] == [("failed", "killed by SIGKILL")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model.lrr: [1]", "unknown option model.lrr; did you mean model.lr?"),
        ("model.lr: [0.1, fast]", "model.lr: want a number, got fast"),
        ("resume: [auto]", "resume cannot be in a space"),
        ("trainer.max_epochs: [1, 2]", "--trainer.max_epochs does not go with this sweep"),
    ],
)
def test_a_space_that_fit_would_refuse_is_refused_before_any_trial(cli: Cli, text: str, said: str) -> None:
    code, _, err = cli(*sweep(text=text))
    assert (code, err.count("\n"), said in err) == (2, 1, True), err
    assert not FOLDER.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no space"),
        ("model.lr: 3", "want a list"),
        ("model.lr: []", "want a list"),
        ("model.lr: [[1]]", "want a list"),
        ("model.lr: {low: 1}", "want a list"),
        ("model.lr: {low: 1, high: 2, lag: true}", "want a list"),
        ("model.lr: {low: 2, high: 1}", "want low ≤ high"),
        ("model.lr: {low: x, high: 1}", "low: want a number"),
        ("model.lr: {low: 0, high: 1, log: true}", "low > 0"),
        ("model.lr: {low: 1, high: 2, step: 0}", "want more than 0"),
        ("model.lr: {", "cannot be read as YAML"),
    ],
)
def test_a_space_that_cannot_be_understood_is_refused_with_its_option(text: str, said: str) -> None:
    Path("space.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        space.read(Path("space.yaml"))


def test_numbers_in_a_space_may_have_exponents() -> None:
    Path("space.yaml").write_text("a: {low: 1e-3, high: 1e1, log: true}\nb: {low: 1, high: 9, step: 2}\nc: [x, null]\n")
    assert space.read(Path("space.yaml")) == {
        "a": Between(0.001, 10.0, log=True),
        "b": Between(1, 9, 2),
        "c": ["x", None],
    }


def test_a_recipe_that_sets_nothing_aside_is_refused(cli: Cli) -> None:
    code, _, err = cli(*sweep(quick=("--data.val_size", "0")))
    assert (code, "sets nothing aside" in err) == (2, True)


def test_a_study_has_one_recipe_and_one_space(cli: Cli) -> None:
    assert cli(*sweep("--trials", "0"))[0] == 1
    for args, said in (
        (sweep(quick=("--trainer.max_epochs", "2")), "begun with trainer.limit_train_batches 2"),
        (sweep(text="model.lr: [0.1]"), "begun with model.lr"),
    ):
        code, _, err = cli(*args, "--trials", "0")
        assert (code, said in err) == (2, True), err


def test_processes_with_one_seed_try_different_settings_and_each_number_once() -> None:
    given: dict[str, Between | list[Any]] = {"lr": Between(0.0, 1.0)}
    studies = [Study("s", Path("here")) for _ in range(2)]
    trials = [study.next(3, given) for study in (*studies, studies[0], studies[1])]
    assert [trial and trial.number for trial in trials] == [0, 1, 2, None]
    assert len({trial.settings["lr"] for trial in trials if trial}) == 3
    again = Study("t", Path("there")).next(3, given)
    assert again
    assert trials[0]
    assert again.settings == trials[0].settings  # a function of seed and number


def test_a_trial_of_another_machine_is_taken_over_when_it_was_long_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Between | list[Any]] = {"lr": Between(0.0, 1.0)}
    with monkeypatch.context() as patch:
        patch.setattr("platform.node", lambda: "far")
        far = Study("s", Path("far"), "sqlite:///studies.db").next(1, given)
    assert far
    far.follow([Validation(0.5, 1.0, 1)])
    near = Study("s", Path("near"), "sqlite:///studies.db")
    assert near.next(1, given) is None
    later = time.time() + 301
    monkeypatch.setattr("time.time", lambda: later)
    mine = near.next(1, given)
    assert mine
    assert (mine.number, mine.settings) == (far.number, far.settings)
    mine.complete(0.75)
    far.complete(0.5)  # it was not dead after all, and too late
    assert near.optuna.best_value == 0.75


def test_a_database_does_without_a_journal_and_its_address_is_nowhere(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///studies.db?timeout=20&cache={'pass' + 'word'}"
    monkeypatch.setenv("MNIST_LIT_STORAGE", url)
    monkeypatch.setenv("MNIST_LIT_TEST", "1")
    code, out, err = cli(*sweep("--trials", "1"))
    assert (code, err) == (0, "")
    assert not FOLDER.joinpath("journal.log").exists()
    kept = [path for path in Path().rglob("*") if path.is_file()]
    assert not [path for path in kept if b"cache=" in path.read_bytes()]
    assert "cache=" not in out


@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_a_database_that_cannot_be_used_is_one_line_without_its_password(debug: tuple[str, ...]) -> None:
    process = begin(sweep("--storage", URL, *debug))
    out, err = process.communicate()
    assert process.returncode == (1 if debug else 2)
    assert "--storage: cannot use postgresql://…" in err
    assert debug or err.count("\n") == 1
    for secret in (SECRET, "s3cr", "%2Fet"):
        assert secret not in out + err
    assert not [path for path in Path().rglob("*") if path.is_file() and b"s3cr" in path.read_bytes()]


def test_what_a_database_says_is_shown_without_a_password() -> None:
    from sqlalchemy.exc import OperationalError

    told = OperationalError("SELECT 1", {}, RuntimeError(f"bad password {SECRET} of me\nmore"))
    for opening, kind in ((True, InputError), (False, OSError)):
        with (
            pytest.raises(kind, match=r"cannot use postgresql://…: .*bad password \*\*\* of me") as caught,
            reported(URL, opening=opening),
        ):
            raise told
        assert SECRET not in "".join(traceback.format_exception(caught.value))  # as --debug shows it
    with pytest.raises(InputError, match=r"ValueError$"), reported("pg://u:one/two@h", opening=True):
        int("one")


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("pg://me:a@b:c@host/d", "a@b:c"),
        ("pg://me:a%40b@host/d", "a@b or a%40b"),
        ("pg://host/d?password=x%20y", "x y, x%20y"),
        ("mssql://?odbc_connect=UID%3Dme%3BPWD%3Dhush", "hush"),
    ],
)
def test_every_way_to_write_a_password_is_masked(url: str, text: str) -> None:
    assert set(masked(text, url)) <= {*"*, or"}


def test_a_trials_process_does_not_get_the_address(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], dict[str, str]]] = []
    real = subprocess.Popen

    def popen(args: list[str], **options: Any) -> Any:
        if "mnist_lit" in args:
            seen.append((args, options["env"]))
        return real(args, **options)

    monkeypatch.setattr("subprocess.Popen", popen)
    monkeypatch.setenv("MNIST_LIT_STORAGE", "sqlite:///studies.db")
    assert cli(*sweep("--trials", "1", "--storage", "sqlite:///others.db"))[0] == 0
    assert len(seen) == 2
    assert not [text for args, env in seen for text in (*args, *env.values()) if ".db" in text]


def test_without_optuna_one_line_says_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mnist_lit.study")
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = cli(*sweep())
    assert (code, "pip install 'mnist-lit[sweep]'" in err, err.count("\n")) == (2, True, 1)


def test_a_sweep_imports_no_torch() -> None:
    said = "import json, sys, mnist_lit.sweep, mnist_lit.study; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", said], capture_output=True, check=True).stdout)
    assert not {"torch", "lightning"} & {*loaded}


def test_a_launcher_is_refused_a_sweep(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = cli(*sweep())
    assert (code, "starts processes of its own" in err) == (2, True)
