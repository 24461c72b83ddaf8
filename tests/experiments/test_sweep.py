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
from optuna.distributions import BaseDistribution, CategoricalDistribution

from mnist_lit.errors import InputError
from mnist_lit.experiments.space import Range, read_space
from mnist_lit.experiments.study import Study, mask_secrets, storage_errors
from mnist_lit.experiments.sweep import check_space
from mnist_lit.runs.folders import FINISHED_MARK
from mnist_lit.runs.results import Validation, read_validations

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


FAKE = """
import os, pathlib, sys, time
args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if "--print_config" in args or sys.argv[-1] == "--print_config":
    print(f"data: {{val_size: {args.get('--data.val_size', 180)}}}")
    print(f"trainer: {{max_epochs: {args.get('--trainer.max_epochs')}}}")
    print(f"model: {{lr: {float(args['--model.lr'])}}}")
    sys.exit()
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
        time.sleep(60 if lr == 1e-9 and epoch == 12 else 0.05)  # that one waits to be pruned
"""
Started = list[tuple[list[str], dict[str, str]]]


@pytest.fixture
def quick_fits(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Fits that take a second and train nothing; the arguments and the environments that they got."""
    started: Started = []

    def start(command: str, args: list[str], **popen: Any) -> subprocess.Popen[bytes]:
        started.append(([*args], popen["env"]))
        return subprocess.Popen([sys.executable, "-c", FAKE, *args], **popen)

    monkeypatch.setattr("mnist_lit.experiments.sweep.start_command", start)
    monkeypatch.setattr("mnist_lit.experiments.sweep.POLL", 0.02)
    return started


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


@pytest.mark.slow  # 15 s
def test_a_sweep_that_is_killed_goes_on_with_its_trial_which_is_a_run_of_its_settings(cli: Cli) -> None:
    quick = ("--trainer.max_epochs", "2", "--trainer.limit_train_batches", "6", "--figures", "false")
    process = begin(sweep("--trials", "1", quick=quick))
    run = FOLDER / "trial_0"
    wait_for(run.joinpath("checkpoints/last.ckpt").exists)
    process.kill()
    process.communicate()
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
        epochs = [found.epoch for found in read_validations(FOLDER / f"trial_{row['trial']}")]
        assert epochs == [1, 2, 3][: len(epochs)]
        assert row["state"] == "pruned" or len(epochs) == 3


@pytest.mark.slow
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


def a_study(lrs: list[float]) -> optuna.Study:
    """The sweep's study, with five trials that learnt well, and settings that are to be tried next."""
    study = Study("quickstart", FOLDER).optuna
    values: dict[str, BaseDistribution] = {"model.lr": CategoricalDistribution([0.003, 1e-9, 2e-9, -1.0])}
    good = dict.fromkeys(range(1, 9), 0.5)
    for _ in range(5):
        params = {"model.lr": 0.003}
        study.add_trial(optuna.create_trial(value=0.5, params=params, distributions=values, intermediate_values=good))
    for lr in lrs:
        study.enqueue_trial({"model.lr": lr})
    return study


LRS = "model.lr: [0.003, 0.000000001, 0.000000002, -1.0]\n"


def test_what_does_not_learn_is_pruned_and_what_learns_is_not(cli: Cli, quick_fits: Started) -> None:
    study = a_study([1e-9, 0.003])
    code, out, err = cli(*sweep("--trials", "7", text=LRS))
    assert (code, err) == (0, "")
    bad, good = study.trials[5:]
    assert (bad.state.name, good.state.name) == ("PRUNED", "COMPLETE")
    assert 3 <= len(bad.intermediate_values) < 20
    assert len(good.intermediate_values) == 20
    assert "trial 5: pruned" in out


def test_without_pruning_all_come_to_their_end(cli: Cli, quick_fits: Started) -> None:
    study = a_study([2e-9])
    assert cli(*sweep("--trials", "6", "--no-prune", text=LRS))[0] == 0
    assert (study.trials[5].state.name, len(study.trials[5].intermediate_values)) == ("COMPLETE", 20)


@pytest.mark.slow
def test_a_fit_that_is_pruned_has_saved(cli: Cli) -> None:
    study = a_study([1e-9])
    quick = ("--trainer.max_epochs", "30", "--figures", "false")
    assert cli(*sweep("--trials", "6", text=LRS, quick=quick))[0] == 0
    assert study.trials[5].state.name == "PRUNED"
    run = FOLDER / "trial_5"
    assert run.joinpath("checkpoints/last.ckpt").exists()
    assert not run.joinpath(FINISHED_MARK).exists()


def test_a_trial_that_fails_costs_itself_alone(cli: Cli, quick_fits: Started) -> None:
    a_study([-1.0, 0.003])
    code, out, err = cli(*sweep("--trials", "7", text=LRS))
    assert (code, err) == (0, "")
    assert "trial 5: failed: lr: expected more than 0" in out
    rows = {row["trial"]: (row["state"], row["reason"]) for row in table()}
    assert (rows["5"], rows["6"]) == (("failed", "lr: expected more than 0"), ("complete", ""))


def test_a_fit_that_is_killed_is_a_failed_trial(cli: Cli, quick_fits: Started) -> None:
    code, _, _ = cli(*sweep("--trials", "1", text="model.lr: [9.0]"))
    assert code == 1  # no trial has a score
    assert [(row["state"], row["reason"]) for row in table()] == [("failed", "killed by SIGKILL")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model.lrr: [1]", "unknown option model.lrr; did you mean model.lr?"),
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
        ("model.lr: 3", "expected a list"),
        ("model.lr: []", "expected a list"),
        ("model.lr: [[1]]", "expected a list"),
        ("model.lr: {low: 1}", "expected a list"),
        ("model.lr: {low: 1, high: 2, lag: true}", "expected a list"),
        ("model.lr: {low: 2, high: 1}", "expected low ≤ high"),
        ("model.lr: {low: x, high: 1}", "low: expected a number"),
        ("model.lr: {low: 0, high: 1, log: true}", "low > 0"),
        ("model.lr: {low: 1, high: .inf}", "both finite"),
        ("model.lr: {low: 1, high: 2, step: 0}", "expected more than 0"),
        ("model.lr: {low: 1, high: 2, step: .nan}", "expected more than 0"),
        ("model.lr: {low: 1, high: 4, step: 2}", "step: expected one that leads from 1 to 4"),
        ("model.lr: {low: 1, high: 2, step: 1e10}", "step: expected one that leads from 1 to 2"),
        ("model.lr: {low: 0, high: 1e308, step: 1e-10}", "step: expected one that leads"),
        ("model.lr: {", "cannot be read as YAML"),
    ],
)
def test_a_space_that_cannot_be_understood_is_refused_with_its_option(text: str, said: str) -> None:
    Path("space.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_space(Path("space.yaml"))


def test_numbers_in_a_space_may_have_exponents() -> None:
    Path("space.yaml").write_text(
        "a: {low: 1e-3, high: 1e1, log: true}\nb: {low: 1, high: 9, step: 2}\nc: [x, null]\n"
        "d: {low: 0, high: 0.3, step: 0.1}\n"
    )
    assert read_space(Path("space.yaml")) == {
        "a": Range(0.001, 10.0, log=True),
        "b": Range(1, 9, 2),
        "c": ["x", None],
        "d": Range(0, 0.3, 0.1),
    }


def test_whole_bounds_have_fractions_between_them_where_the_option_takes_these() -> None:
    given: dict[str, Range | list[Any]] = {"data.degrees": Range(0, 15), "data.batch_size": Range(32, 64)}
    _, typed = check_space(["--config", "quickstart"], given)
    assert [type(number) for name in given for number in typed[name][:2]] == [float, float, int, int]


def test_a_sweep_tries_fractions_and_refuses_a_study_of_whole_numbers(cli: Cli, quick_fits: Started) -> None:
    text = "model.lr: {low: 0, high: 1}"
    assert cli(*sweep("--trials", "1", text=text))[0] == 0
    (options,) = [args for args, _ in quick_fits if "--print_config" not in args]
    assert 0 < float(options[options.index("--model.lr") + 1]) < 1
    Study("old", FOLDER.with_name("sweep_old")).agree("space", {"model.lr": Range(0, 1)._asdict()})
    code, _, err = cli(*sweep("--study", "old", text=text))
    assert (code, "begun with model.lr {'low': 0, " in err) == (2, True)


def test_a_recipe_that_sets_nothing_aside_is_refused(cli: Cli, quick_fits: Started) -> None:
    code, _, err = cli(*sweep(quick=("--data.val_size", "0")))
    assert (code, "sets nothing aside" in err) == (2, True)


def test_a_study_has_one_recipe_and_one_space(cli: Cli, quick_fits: Started) -> None:
    assert cli(*sweep("--trials", "0"))[0] == 1
    code, _, err = cli(*sweep("--trials", "0", text="model.lr: [0.1]"))
    assert (code, "begun with model.lr {'low': 0.001" in err) == (2, True)
    code, _, err = cli(*sweep("--trials", "0", quick=("--trainer.max_epochs", "2")))
    assert (code, "begun with trainer.max_epochs 1, not 2" in err) == (2, True)


def test_processes_with_one_seed_try_different_settings_and_each_number_once() -> None:
    given: dict[str, Range | list[Any]] = {"lr": Range(0.0, 1.0)}
    studies = [Study("s", Path("here")) for _ in range(2)]
    trials = [study.next(3, given) for study in (*studies, studies[0], studies[1])]
    assert [trial and trial.number for trial in trials] == [0, 1, 2, None]
    assert len({trial.settings["lr"] for trial in trials if trial}) == 3
    again = Study("t", Path("there")).next(3, given)
    assert again
    assert trials[0]
    assert again.settings == trials[0].settings  # a function of seed and number


def test_a_trial_of_another_machine_is_taken_over_when_it_was_long_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Range | list[Any]] = {"lr": Range(0.0, 1.0)}
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
    assert far.follow([Validation(0.5, 1.0, 1), Validation(0.6, 1.0, 2)])  # not dead after all, and too late
    far.fail("late")
    far.complete(0.5)
    assert near.optuna.best_value == 0.75


def test_a_database_does_without_a_journal_and_its_address_goes_nowhere(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, quick_fits: Started
) -> None:
    monkeypatch.setenv("MNIST_LIT_STORAGE", "sqlite:///hush.db?timeout=23")
    code, out, err = cli(*sweep("--trials", "1"))
    assert (code, err, "hush" in out) == (0, "", False)
    code, out, err = cli(*sweep("--trials", "2", "--storage", "sqlite:///hush.db?timeout=23"))
    assert (code, err, "hush" in out) == (0, "", False)
    assert len(table()) == 2
    assert not FOLDER.joinpath("journal.log").exists()
    assert not [text for args, env in quick_fits for text in (*args, *env.values()) if "hush" in text]
    assert len(quick_fits) == 4
    assert not [path for path in Path().rglob("*") if path.is_file() and b"hush" in path.read_bytes()]


def test_a_database_that_cannot_be_used_is_one_line_without_its_password(cli: Cli, quick_fits: Started) -> None:
    code, out, err = cli(*sweep("--storage", URL))
    assert (code, err.count("\n")) == (2, 1)
    assert "--storage: cannot use postgresql://…" in err
    with pytest.raises(InputError) as caught:
        cli(*sweep("--storage", URL, "--debug"))
    shown = out + err + "".join(traceback.format_exception(caught.value))
    assert not [secret for secret in (SECRET, "s3cr", "%2Fet") if secret in shown]
    assert not [path for path in Path().rglob("*") if path.is_file() and b"s3cr" in path.read_bytes()]


def test_what_a_database_says_is_shown_without_a_password() -> None:
    from sqlalchemy.exc import OperationalError

    told = OperationalError("SELECT 1", {}, RuntimeError(f"bad password {SECRET} of me\nmore"))
    for opening, kind in ((True, InputError), (False, OSError)):
        with (
            pytest.raises(kind, match=r"cannot use postgresql://…: .*bad password \*\*\* of me") as caught,
            storage_errors(URL, opening=opening),
        ):
            raise told
        assert SECRET not in "".join(traceback.format_exception(caught.value))  # as --debug shows it
    with pytest.raises(InputError, match=r"ValueError$"), storage_errors("pg://u:one/two@h", opening=True):
        int("one")


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("pg://me:a@b:c@host/d", "a@b:c"),
        ("pg://me:a%40b@host/d", "a@b or a%40b"),
        ("pg://me:hush@host/x?options=a@b", "hush"),
        ("pg://host/d?password=x%20y", "x y, x%20y"),
        ("mssql://?odbc_connect=UID%3Dme%3BPWD%3Dhush", "hush"),
    ],
)
def test_every_way_to_write_a_password_is_masked(url: str, text: str) -> None:
    assert set(mask_secrets(text, url)) <= {*"*, or"}


def test_without_optuna_one_line_says_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mnist_lit.experiments.study")
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = cli(*sweep())
    assert (code, "pip install 'mnist-lit[sweep]'" in err, err.count("\n")) == (2, True, 1)


def test_a_sweep_imports_no_torch() -> None:
    said = "import json, sys, mnist_lit.cli.sweep, mnist_lit.experiments.study; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", said], capture_output=True, check=True).stdout)
    assert not {"torch", "lightning"} & {*loaded}


def test_a_launcher_is_refused_a_sweep(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = cli(*sweep())
    assert (code, "starts processes of its own" in err) == (2, True)
