"""A sweep's study: trials that processes share, in a journal file or a database. Optuna is met here and nowhere else.

A trial belongs to the process that holds the lock in its folder, and on other machines to the one that lately said it
is alive. What belongs to nobody waits to be gone on with, under its own number. A database's address has a password in
it: it is never written, and what Optuna or the database say of it is shown without it.
"""

import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import OptunaError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from mnist_lit.errors import InputError
from mnist_lit.experiments.space import Range, Space
from mnist_lit.runs.results import Validation

__all__ = ["OwnTrial", "Study", "TrialResult", "mask_secrets", "storage_errors"]

JOURNAL = "journal.log"
ALIVE = 30.0  # seconds between two signs of life
DEAD = 300.0  # seconds without one, on another machine, whose clock may differ
WARMUP = 2  # validations before the first that can prune
STARTUP = 4  # trials that are complete before the first that is pruned
DONE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class TrialResult(NamedTuple):
    """What the study knows of one trial."""

    number: int
    state: str  # complete, pruned, failed, running, waiting
    settings: dict[str, Any]
    best: Validation | None
    place: str  # the machine and the folder of the study there
    reason: str  # why it failed


class OwnTrial:
    """A trial of this process, until it is told how it ended."""

    def __init__(self, study: "Study", trial: optuna.Trial, lock: FileLock) -> None:
        self.number, self.settings = trial.number, dict(trial.params)
        self.run = study.folder / f"trial_{trial.number}"
        self._study, self._trial, self._lock, self._alive = study, trial, lock, -ALIVE
        self._told = len(study.frozen(trial.number).intermediate_values)

    def follow(self, validations: list[Validation]) -> bool:
        """Tell of validations that are new, and that the process lives; whether the trial should end early."""
        new = list(enumerate(validations, 1))[self._told :]
        try:
            if time.monotonic() - self._alive > ALIVE:
                self._alive = time.monotonic()
                self._trial.set_user_attr("alive", time.time())
            for number, validation in new:  # by number, since steps are not alike where batches are not
                self._trial.report(validation.acc, number)
            if new:
                self._told = len(validations)
                self._trial.set_user_attr("best", [*max(validations, key=Validation.rank)])
            return bool(new) and self._trial.should_prune()
        except UpdateFinishedTrialError:  # who thought this process dead was quicker
            return True

    def complete(self, acc: float) -> None:
        """It came to its end with this as its best."""
        self._tell(TrialState.COMPLETE, acc)

    def prune(self) -> None:
        """It was not worth going on with."""
        self._tell(TrialState.PRUNED)

    def fail(self, reason: str) -> None:
        """It came to no score."""
        with suppress(UpdateFinishedTrialError):
            self._trial.set_user_attr("reason", reason)
        self._tell(TrialState.FAIL)

    def put_back(self) -> None:
        """Let it wait for whoever goes on with it."""
        with suppress(UpdateFinishedTrialError):
            self._study.wait(self._trial._trial_id)

    def release(self) -> None:
        """Let its folder go."""
        self._lock.release()

    def _tell(self, state: TrialState, value: float | None = None) -> None:
        self._study.optuna.tell(self._trial, value, state, skip_if_finished=True)


class Study:
    """A study by its name, begun or joined; `folder` holds its runs, and its journal unless `url` is a database's."""

    def __init__(self, name: str, folder: Path, url: str = "", *, seed: int = 0) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self._seed = folder, seed
        self._place = f"{platform.node()}:{folder.resolve()}"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".lock")
        with self._lock:  # of two that begin together only one makes the tables
            self._storage: BaseStorage = (
                RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
                if url
                # Optuna's own lock is a file that a killed process leaves behind
                else JournalStorage(JournalFileBackend(str(folder / JOURNAL), FileLock(folder / f".{JOURNAL}.lock")))  # type: ignore[arg-type]
            )
            self.optuna = optuna.create_study(
                study_name=name, storage=self._storage, direction="maximize", load_if_exists=True
            )
        self.optuna.pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=WARMUP + 1)

    def agree(self, key: str, value: Any) -> Any:
        """What the study says of itself under a key; the value, where it says nothing yet."""
        with self._lock:
            if key not in self.optuna.user_attrs:
                self.optuna.set_user_attr(key, value)
            return self.optuna.user_attrs[key]

    def next(self, total: int, space: Space) -> OwnTrial | None:
        """A trial to begin or to go on with; None where `total` are begun and none of them waits."""
        with self._lock:
            for frozen in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if self._is_nobodys(frozen):
                    with suppress(UpdateFinishedTrialError):  # it has just ended
                        self.wait(frozen._trial_id)
            begun = self.optuna.get_trials(deepcopy=False, states=(*DONE, TrialState.RUNNING))
            if len(begun) >= total:
                return None
            trial = self.optuna.ask()
            if trial.number >= total:  # another machine was quicker
                self.wait(trial._trial_id)
                return None
            run = self.folder / f"trial_{trial.number}"
            run.mkdir(exist_ok=True)
            lock = FileLock(run / ".trial.lock")
            lock.acquire()
            trial.set_user_attr("place", self._place)
        # A function of seed, number and what is known by now: processes with one seed try different values.
        sampler = optuna.samplers.TPESampler(seed=(1000 * self._seed + trial.number) % 2**32, constant_liar=True)
        self.optuna.sampler = sampler
        for name, values in space.items():
            _suggest(trial, name, values)
        return OwnTrial(self, trial, lock)

    def wait(self, trial_id: int) -> None:
        """Let a trial wait for whoever asks next, with its number and its settings."""
        self._storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def frozen(self, number: int) -> optuna.trial.FrozenTrial:
        """A trial as it is now."""
        return self.optuna.get_trials(deepcopy=False)[number]

    def tried(self) -> list[TrialResult]:
        """All trials, the best first; of equals the one with the lower loss."""
        rows = []
        for trial in self.optuna.get_trials(deepcopy=False):
            attrs = trial.user_attrs
            state = {"fail": "failed"}.get(trial.state.name.lower(), trial.state.name.lower())
            best = Validation(*attrs["best"]) if "best" in attrs else None
            row = TrialResult(trial.number, state, trial.params, best, attrs.get("place", ""), attrs.get("reason", ""))
            rows.append(row)
        return sorted(rows, key=lambda row: (row.best is not None, row.best and row.best.rank()), reverse=True)

    def at(self, trial: TrialResult) -> str:
        """Where a trial's run is; on another machine, or in another folder, with both."""
        place = "" if trial.place == self._place else f"{trial.place.partition(':')[0]}:"
        return f"{place}{self.folder if not place else trial.place.partition(':')[2]}/trial_{trial.number}"

    def _is_nobodys(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether the process of a running trial is dead, and so is the fit that it began."""
        if trial.user_attrs.get("place") != self._place:
            assert trial.datetime_start
            alive: float = max(trial.datetime_start.timestamp(), trial.user_attrs.get("alive", 0.0))
            return time.time() - alive > DEAD
        return all(_is_free(self.folder / f"trial_{trial.number}" / name) for name in (".trial.lock", ".lock"))


def mask_secrets(text: str, url: str) -> str:
    """A text without what may be secret in a database's address: the password, and all values behind a question mark.

    >>> mask_secrets("host: me may not come in with s@y", "pg://me:s%40y@host/x?sslmode=require")
    'host: me may not come in with ***'
    """
    rest, query = url.partition("://")[2], url.partition("?")[2]
    users = {rest[: at.start()].partition(":")[2] for at in re.finditer("@", rest)}  # also where one is behind the host
    secrets = {*users, *re.findall("=([^&;]*)", f"{query}&{unquote(query)}")}
    for secret in sorted({*secrets, *map(unquote, secrets)} - {""}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


@contextmanager
def storage_errors(url: str, *, opening: bool = False) -> Iterator[None]:
    """Inside, what the storage cannot do is one line without a secret: InputError while it is opened, else OSError."""
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:
        if not opening and not isinstance(error, OptunaError | SQLAlchemyError):
            raise
        cause: BaseException = error
        while deeper := cause.__cause__ or cause.__context__:
            cause = deeper
        where = f"{url.partition('://')[0]}://…" if url else "the journal"
        text = f"--storage: cannot use {where}: {type(cause).__name__}"
        if not isinstance(cause, ValueError | ArgumentError):  # of an address that is none: it may quote any part of it
            text += f": {mask_secrets((str(cause).strip().splitlines() or [''])[0], url)}"
        raise (InputError if opening else OSError)(text) from None


def _suggest(trial: optuna.Trial, name: str, values: Range | list[Any]) -> None:
    """Choose a value, if the trial has none yet."""
    if isinstance(values, list):
        trial.suggest_categorical(name, values)
    elif all(isinstance(number, int) for number in (values.low, values.high, values.step or 1)):
        low, high, step = int(values.low), int(values.high), int(values.step or 1)
        trial.suggest_int(name, low, high, step=step, log=values.log)
    else:
        trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)


def _is_free(path: Path) -> bool:
    """Whether no process holds a lock."""
    if not path.parent.is_dir():
        return True
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False
