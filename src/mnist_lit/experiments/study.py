"""A sweep's study: trials that processes share, in a journal file or a database. The only module that uses Optuna.

A running trial belongs to the process that holds the lock in its folder or, on another machine, whose locks cannot be
seen, to the process that reported a heartbeat in the last minutes. A trial without an owner waits to be continued under
its own number; Optuna's own retries need a database and start again under a new number.

A database URL contains a password: it is never written, and errors about it are shown with the password masked."""

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

HEARTBEAT = 30.0  # seconds between two heartbeats
HEARTBEAT_TIMEOUT = 300.0  # seconds without a heartbeat; long, because other machines' clocks may differ
DIGITS = 4  # of a number drawn from a continuous range
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class TrialResult(NamedTuple):
    """What the study knows about one trial."""

    number: int
    state: str  # complete, pruned, failed, running, waiting
    settings: dict[str, Any]
    best: Validation | None
    run: str  # its folder, with the machine's name if it last ran on another one
    reason: str  # why it failed


class RunningTrial:
    """A trial that this process runs, until it calls `finish` and releases `lock`."""

    def __init__(self, study: "Study", trial: optuna.Trial, run: Path, lock: FileLock) -> None:
        self.number, self.settings, self.run, self.lock = trial.number, _settings(trial), run, lock
        self._study, self._trial, self._last_heartbeat = study, trial, -HEARTBEAT
        self._reported = len(study.optuna.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def report(self, validations: list[Validation]) -> bool:
        """Report new validations and a heartbeat; returns whether the trial should end early."""
        new = list(enumerate(validations, 1))[self._reported :]
        try:
            if time.monotonic() - self._last_heartbeat > HEARTBEAT:
                self._last_heartbeat = time.monotonic()
                self._trial.set_user_attr("alive", time.time())
            for number, validation in new:  # by number: steps differ between batch sizes
                self._trial.report(validation.acc, number)
            if new:
                self._reported = len(validations)
                self._trial.set_user_attr("best", [*max(validations, key=Validation.rank)])
            return bool(new) and self._trial.should_prune()
        except UpdateFinishedTrialError:  # another process took this one for dead, and has finished the trial
            return True

    def finish(self, state: str, *, acc: float | None = None, reason: str = "") -> None:
        """End as "complete" with a score, "pruned", "failed" with a reason, or "waiting" to be continued."""
        with suppress(UpdateFinishedTrialError):
            if reason:
                self._trial.set_user_attr("reason", reason)
            if state == "waiting":
                self._study.requeue(self._trial)
            else:
                self._study.optuna.tell(self._trial, acc, STATES[state], skip_if_finished=True)


class Study:
    """Create or join a study by its name. `folder` holds its runs and, unless `url` names a database, its journal."""

    def __init__(self, name: str, folder: Path, url: str = "", *, seed: int = 0) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self._seed = folder, seed
        self._location = f"{platform.node()}:{folder.resolve()}"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".lock")
        with self._lock:  # two processes that start together must not both create the tables
            if url:
                self._storage: BaseStorage = RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
            else:  # with FileLock, because a killed process leaves Optuna's own lock file behind
                lock: Any = FileLock(folder / ".journal.log.lock")
                self._storage = JournalStorage(JournalFileBackend(str(folder / "journal.log"), lock))
            # Four trials must be complete before one is pruned, and none is pruned by its first two validations.
            pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=3)
            self.optuna = optuna.create_study(
                study_name=name, storage=self._storage, direction="maximize", load_if_exists=True, pruner=pruner
            )

    def setdefault(self, key: str, value: Any) -> Any:
        """The study's attribute; the first process to ask sets it to `value`."""
        with self._lock:
            if key not in self.optuna.user_attrs:
                self.optuna.set_user_attr(key, value)
            return self.optuna.user_attrs[key]

    def next(self, total: int, space: Space) -> RunningTrial | None:
        """The next trial to start or to continue; None if `total` have started and none of them waits."""
        with self._lock:
            for running in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if self._is_abandoned(running):
                    self.requeue(running)
            if len(self.optuna.get_trials(deepcopy=False, states=(*STATES.values(), TrialState.RUNNING))) >= total:
                return None
            trial = self.optuna.ask()
            if trial.number >= total:  # another machine, which does not see our lock, was faster
                self.requeue(trial)
                return None
            run = self.folder / f"trial_{trial.number}"
            run.mkdir(exist_ok=True)
            lock = FileLock(run / ".trial.lock")
            lock.acquire()
            if "place" not in trial.user_attrs:  # a new one; those of older versions keep all their digits
                trial.set_user_attr("digits", DIGITS)
            trial.set_user_attr("place", self._location)
        # The draw depends on the seed, the number and all results so far: processes with one seed try different values.
        # constant_liar keeps the sampler away from settings that other processes are trying at the moment.
        sampler = optuna.samplers.TPESampler(seed=(1000 * self._seed + trial.number) % 2**32, constant_liar=True)
        self.optuna.sampler = sampler
        for name, values in space.items():  # a continued trial keeps the value that it has
            match values:
                case list():
                    trial.suggest_categorical(name, values)
                case Range(int(low), int(high), int() | None as step, log):
                    trial.suggest_int(name, low, high, step=step or 1, log=log)
                case Range(low, high, step, log):
                    trial.suggest_float(name, low, high, step=step, log=log)
        return RunningTrial(self, trial, run, lock)

    def requeue(self, trial: optuna.Trial | optuna.trial.FrozenTrial) -> None:
        """Let a trial wait for the next process that asks, under its number and settings, unless it is finished."""
        with suppress(UpdateFinishedTrialError):
            # Private, since Optuna cannot requeue a trial under its own number. Checked with Optuna 5.0.0.
            self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def results(self) -> list[TrialResult]:
        """All trials, the best first, see `Validation.rank`; those without a validation last."""
        results = []
        for trial in self.optuna.get_trials(deepcopy=False):
            state = trial.state.name.lower().replace("fail", "failed")
            best, place, reason = map(trial.user_attrs.get, ("best", "place", "reason"))
            best = Validation(*best) if best else None
            folder = self.folder if place == self._location else place or ""
            run = f"{folder}/trial_{trial.number}"
            results.append(TrialResult(trial.number, state, _settings(trial), best, run, reason or ""))
        return sorted(results, key=lambda result: result.best.rank() if result.best else (), reverse=True)

    def _is_abandoned(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether the process of a running trial is dead, and so is the fit that it started."""
        if trial.user_attrs.get("place") != self._location:
            assert trial.datetime_start
            alive: float = max(trial.datetime_start.timestamp(), trial.user_attrs.get("alive", 0.0))
            return time.time() - alive > HEARTBEAT_TIMEOUT
        run = self.folder / f"trial_{trial.number}"
        if not run.is_dir():
            return True
        with suppress(Timeout), FileLock(run / ".trial.lock", timeout=0), FileLock(run / ".lock", timeout=0):
            return True
        return False


def _settings(trial: optuna.Trial | optuna.trial.FrozenTrial) -> dict[str, Any]:
    """What a trial is trained with: numbers drawn from a continuous range have a few digits, so they can be typed."""
    settings, digits = dict(trial.params), trial.user_attrs.get("digits")
    for name, drawn_from in trial.distributions.items() if digits else ():
        if isinstance(drawn_from, optuna.distributions.FloatDistribution) and drawn_from.step is None:
            rounded = float(f"{settings[name]:.{digits}g}")
            settings[name] = min(max(rounded, drawn_from.low), drawn_from.high)
    return settings


def mask_secrets(text: str, url: str) -> str:
    """A text with the possible secrets of a database URL masked: the password and all query values.

    >>> mask_secrets("host: me may not come in with s@y", "pg://me:s%40y@host/x?sslmode=require")
    'host: me may not come in with ***'
    """
    rest, query = url.partition("://")[2], url.partition("?")[2]
    passwords = {rest[: at.start()].partition(":")[2] for at in re.finditer("@", rest)}  # each @ may end the password
    secrets = {*passwords, *re.findall("=([^&;]*)", f"{query}&{unquote(query)}")}
    for secret in sorted({*secrets, *map(unquote, secrets)} - {""}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


@contextmanager
def storage_errors(url: str, *, opening: bool = False) -> Iterator[None]:
    """Inside, storage errors become one line without secrets: InputError while opening the storage, OSError later."""
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
        if not isinstance(cause, ValueError | ArgumentError):  # these may quote any part of a malformed URL
            text += f": {mask_secrets((str(cause).strip().splitlines() or [''])[0], url)}"
        raise (InputError if opening else OSError)(text) from None
