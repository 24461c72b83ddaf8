"""A study's trials are shared by processes, and no password appears anywhere."""

import json
import math
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution

from mnist_lit.errors import InputError
from mnist_lit.experiments.space import Range, Space
from mnist_lit.experiments.study import Study, mask_secrets, storage_errors
from mnist_lit.runs.results import Validation

SECRET = "s3cr/et"
URL = "postgresql://me:s3cr%2Fet@127.0.0.1:1/studies"


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


def test_each_combination_of_lists_is_tried_once_by_all_processes_together() -> None:
    space: Space = {"lr": [0.1, 0.2], "init": ["he", None], "nesterov": [True]}
    orders = []
    for seed in range(4):
        studies = [Study(f"s{seed}", Path(f"here{seed}"), seed=seed) for _ in range(2)]
        tried = []
        for number, state in enumerate(("failed", "pruned", "waiting", "waiting", "complete", "complete")):
            assert not studies[0].is_exhausted(space) or number > 4
            reordered = dict(sorted(space.items(), reverse=bool(number % 2)))  # as in an edited file
            trial = studies[number % 2].next(9, reordered)
            assert trial
            trial.report([Validation(0.5, 1.0, 1)])
            trial.finish(state, acc=0.5 if state == "complete" else None)
            trial.lock.release()
            tried.append((trial.number, trial.settings["lr"], trial.settings["init"]))
        assert [number for number, *_ in tried] == [0, 1, 2, 2, 2, 3]  # the one that waits is continued
        assert {(lr, init) for _, lr, init in tried} == {(0.1, "he"), (0.1, None), (0.2, "he"), (0.2, None)}
        assert studies[0].is_exhausted(space)
        assert [study.next(9, space) for study in studies] == [None, None]
        orders.append([settings for _, *settings in tried])
    assert any(order != orders[0] for order in orders)
    assert Study("s0", Path("here0")).is_exhausted(space)
    assert not Study("s0", Path("here0")).is_exhausted({**space, "lr": Range(0.1, 0.2)})


def test_a_trial_of_other_options_is_not_a_combination_of_the_space() -> None:
    study, space = Study("s", Path("here")), Space({"lr": [1, 2]})
    params: dict[str, Any] = {"other": 1}
    study.optuna_study.add_trial(
        optuna.create_trial(value=1, params=params, distributions={"other": CategoricalDistribution([1])})
    )
    found = [study.next(9, space) for _ in range(3)]
    assert [trial and trial.settings["lr"] for trial in found] in ([1, 2, None], [2, 1, None])


def test_another_machines_trial_is_taken_over_after_minutes_without_a_heartbeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Range | list[Any]] = {"lr": Range(0.0, 1.0)}
    with monkeypatch.context() as patch:
        patch.setattr("platform.node", lambda: "far")
        far = Study("s", Path("far"), "sqlite:///studies.db").next(1, given)
    assert far
    far.report([Validation(0.5, 1.0, 1)])
    near = Study("s", Path("near"), "sqlite:///studies.db")
    assert near.next(1, given) is None
    later = time.time() + 301
    monkeypatch.setattr("time.time", lambda: later)
    mine = near.next(1, given)
    assert mine
    assert (mine.number, mine.settings) == (far.number, far.settings)
    mine.finish("complete", acc=0.75)
    assert far.report([Validation(0.5, 1.0, 1), Validation(0.6, 1.0, 2)])  # alive after all, but too late
    far.finish("failed", reason="late")
    far.finish("complete", acc=0.5)
    assert near.optuna_study.best_value == 0.75


def test_database_errors_are_shown_without_the_password() -> None:
    from sqlalchemy.exc import OperationalError

    error = OperationalError("SELECT 1", {}, RuntimeError(f"bad password {SECRET} of me\nmore"))
    for opening, kind in ((True, InputError), (False, OSError)):
        with (
            pytest.raises(kind, match=r"cannot use postgresql://…: .*bad password \*\*\* of me") as caught,
            storage_errors(URL, opening=opening),
        ):
            raise error
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
def test_every_spelling_of_a_password_is_masked(url: str, text: str) -> None:
    assert set(mask_secrets(text, url)) <= {*"*, or"}


def test_trials_are_listed_from_best_to_worst(tmp_path: Path) -> None:
    study = Study("s", tmp_path)
    space: Space = {"lr": Range(0.0, 1.0)}
    scores = [Validation(0.5, 1.0, 1), Validation(0.75, 2.0, 1), Validation(0.75, 1.0, 2)]
    for score in scores:
        trial = study.next(4, space)
        assert trial
        trial.report([score])
        trial.finish("complete", acc=score.acc)
    failed = study.next(4, space)
    assert failed
    failed.finish("failed", reason="why")
    results = study.results(space)
    assert [result.best for result in results] == [*reversed(scores), None]
    assert (results[-1].state, results[-1].reason, results[-1].run) == (
        "failed",
        "why",
        f"{tmp_path}/trial_3",
    )


def test_numbers_are_drawn_with_few_digits_within_their_range() -> None:
    study = Study("s", Path("here"))
    given: dict[str, Range | list[Any]] = {"lr": Range(1e-3, 0.1, log=True), "wd": Range(0.123456, 0.123457)}
    trial = study.next(2, given)
    assert trial
    assert trial.settings["lr"] == float(f"{study.optuna_study.trials[0].params['lr']:.4g}")
    assert trial.settings["lr"] != study.optuna_study.trials[0].params["lr"]
    assert trial.settings["wd"] == 0.123457  # rounding up would leave the range
    assert study.results(given)[0].settings == trial.settings
    exact: dict[str, Range | list[Any]] = {"lr": [0.123456], "step": Range(0.123456, 0.323456, 0.1)}
    study = Study("t", Path("there"))
    assert (trial := study.next(1, exact))
    assert trial.settings == study.optuna_study.trials[0].params


def test_a_waiting_trial_keeps_its_number_and_settings() -> None:
    study = Study("s", Path("here"))
    first = study.next(1, {"lr": Range(0.0, 1.0)})
    assert first
    assert study.next(1, {"lr": Range(0.0, 1.0)}) is None
    first.finish("waiting")
    first.lock.release()
    again = study.next(1, {"lr": Range(0.0, 1.0)})
    assert again
    assert (again.number, again.settings) == (first.number, first.settings)


@pytest.mark.parametrize(
    ("params", "drawn_from"),
    [
        ({"lr": 0.5, "trainer.callbacks\x1b[2J": "evil.Code"}, {"trainer.callbacks\x1b[2J": ["evil.Code"]}),
        ({"model.network": "evil.Code"}, {"model.network": ["evil.Code"]}),
        ({"lr": 2.5}, {"lr": Range(0.0, 9.0)}),
        ({"lr": 0.5}, {"lr": Range(0.0, 9.0)}),  # rounding could leave the space
    ],
)
def test_a_trial_with_settings_outside_the_space_fails(params: dict[str, Any], drawn_from: Space) -> None:
    given: Space = {"lr": Range(0.0, 1.0), "optimizer": ["sgd", "adamw"]}
    study = Study("s", Path("here"))
    study.optuna_study.enqueue_trial(params)
    trial = study._take(1, given)
    assert trial
    study._draw(trial[0], drawn_from)
    trial[2].release()
    study.requeue(trial[0])
    honest = study.next(2, given)
    assert honest
    assert (honest.number, {*honest.settings}) == (1, {*given})
    failed = next(result for result in study.results(given) if result.number == 0)
    assert (failed.state, failed.settings, failed.reason.isprintable()) == ("failed", {}, True)


def test_a_value_that_somebody_has_queued_is_from_the_space() -> None:
    study = Study("s", Path("here"))
    study.optuna_study.enqueue_trial({"lr": 2.5})
    with pytest.warns(UserWarning, match="out of range"):
        trial = study.next(2, {"lr": Range(0.0, 1.0)})
    assert (trial and trial.number, study.optuna_study.trials[0].state.name) == (1, "FAIL")


def noted(**attributes: Any) -> Study:
    """A study whose one trial is complete; processes have noted these attributes."""
    study = Study("s", Path("here"))
    study.optuna_study.add_trial(optuna.create_trial(value=0.5, user_attrs=attributes))
    return study


@pytest.mark.parametrize(
    "best", [[1], [math.nan, 0.1, 1], [0.5, math.inf, 1], ["1", 0.1, 1], 5, {"acc": 1}, [2, 0.1, 1]]
)
def test_a_trial_with_a_damaged_score_is_listed_as_failed(best: Any) -> None:
    (result,) = noted(best=best).results({})
    assert (result.state, result.best) == ("failed", None)
    assert result.reason.startswith("the trial's best validation: expected accuracy, loss and epoch")


def test_what_others_have_noted_does_not_control_the_terminal() -> None:
    (result,) = noted(place="far:\x1b[2J", reason=["\x1b"], alive="now").results({})
    assert (result.run, result.reason.isprintable()) == ("far:?[2J/trial_0", True)


@pytest.mark.parametrize("space", [[1], 5, None, "text"])
def test_a_damaged_attribute_of_a_study_is_refused(space: Any) -> None:
    study = Study("s", Path("here"))
    study.optuna_study.set_user_attr("space", space)
    with pytest.raises(InputError, match=r"the study's space is damaged; use --study"):
        study.setdefault("space", {"lr": [1]})


def test_a_damaged_heartbeat_is_none() -> None:
    study = Study("s", Path("here"))
    study.optuna_study.ask().set_user_attr("alive", ["soon"])
    assert study.next(1, {"lr": [1]}) is None  # another machine's, and it began just now


def test_a_folder_that_cannot_be_created_is_one_line() -> None:
    Path("here").touch()
    with pytest.raises(InputError, match="cannot write here: File exists"):
        Study("s", Path("here"))


def test_a_journal_that_is_a_pipe_is_refused() -> None:
    Path("here").mkdir()
    os.mkfifo("here/journal.log")
    with pytest.raises(InputError, match=r"here/journal.log: expected a file, got a pipe"):
        Study("s", Path("here"))


def test_optuna_still_has_the_private_name_that_we_use() -> None:
    study = optuna.create_study()
    study.enqueue_trial({})
    for trial in (study.trials[0], study.ask()):
        assert trial._trial_id == 0, "Optuna renamed _trial_id, which experiments/study.py uses"
    assert hasattr(optuna.storages.BaseStorage, "set_trial_state_values"), "Optuna removed set_trial_state_values"


def test_neither_sweep_nor_study_imports_torch() -> None:
    program = "import json, sys, mnist_lit.cli.sweep, mnist_lit.experiments.study; print(json.dumps([*sys.modules]))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert not {"torch", "lightning"} & {*loaded}


def test_a_heartbeat_keeps_another_machines_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, clock = time.time(), [31.0]
    now = SimpleNamespace(monotonic=lambda: clock[0], time=lambda: begun + clock[0])
    monkeypatch.setattr("mnist_lit.experiments.study.time", now)
    given: Space = {"lr": Range(0.0, 1.0)}
    with monkeypatch.context() as patch:
        patch.setattr("platform.node", lambda: "far")
        far = Study("s", Path("far"), "sqlite:///studies.db").next(1, given)
    near = Study("s", Path("near"), "sqlite:///studies.db")
    assert far
    for clock[0] in (31.0, 330.0, 629.0):
        assert near.next(1, given) is None
        far.report([])
    clock[0] += 302
    assert near.next(1, given)
