"""A sweep's study: trials that processes share, in a journal file or a database. The only module that uses Optuna.

A running trial belongs to the process that holds the lock in its folder or, on another machine, whose locks cannot be
seen, to the process that reported a heartbeat in the last minutes. A trial without an owner waits to be continued under
its own number; Optuna's own retries need a database and start again under a new number.

A database URL contains a password: it is never written, and errors about it are shown with the password masked."""

import math
import platform
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import OptunaError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from mnist_lit.errors import InputError, require
from mnist_lit.experiments.space import Range, Space, Value
from mnist_lit.runs.results import Validation
from mnist_lit.system.atomic_file import report_write_errors
from mnist_lit.system.console import printable
from mnist_lit.system.folder_lock import LOCK

HEARTBEAT = 30.0  # seconds between two heartbeats
HEARTBEAT_TIMEOUT = 300.0  # seconds without a heartbeat; long, because other machines' clocks may differ
SIGNIFICANT_DIGITS = 4  # of a number drawn from a continuous range
Lists = dict[str, list[Value]]
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

    def __init__(self, study: "Study", trial: optuna.Trial, space: Space, run: Path, lock: FileLock) -> None:
        self.number, self.settings, self.run, self.lock = trial.number, _settings(trial, space), run, lock
        self._study, self._trial, self._last_heartbeat = study, trial, -HEARTBEAT
        self._reported = len(study.optuna_study.get_trials(deepcopy=False)[trial.number].intermediate_values)

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
        except UpdateFinishedTrialError:  # another process considered this one dead and finished the trial
            return True

    def finish(self, state: str, *, acc: float | None = None, reason: str = "") -> None:
        """End as "complete" with a score, "pruned", "failed" with a reason, or "waiting" to be continued."""
        with suppress(UpdateFinishedTrialError):
            if reason:
                self._trial.set_user_attr("reason", reason)
            if state == "waiting":
                self._study.requeue(self._trial)
            else:
                self._study.optuna_study.tell(self._trial, acc, STATES[state], skip_if_finished=True)


class Study:
    """Create or join a study by its name. `folder` holds its runs and, unless `url` names a database, its journal."""

    def __init__(self, name: str, folder: Path, url: str = "", *, seed: int = 0) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self._seed = folder, seed
        self._location = f"{platform.node()}:{folder.resolve()}"
        with report_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK)
        with self._lock:  # two processes that start together must not both create the tables
            if url:
                self._storage: BaseStorage = RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
            else:  # with FileLock, because a killed process leaves Optuna's own lock file behind
                lock: Any = FileLock(folder / ".journal.log.lock")
                journal = folder / "journal.log"
                if journal.exists() and not journal.is_file():
                    raise InputError(f"{journal}: expected a file, got a pipe, a device or a folder; use --study NAME")
                self._storage = JournalStorage(JournalFileBackend(str(journal), lock))
            # Four trials must be complete before one is pruned, and none is pruned by its first two validations.
            pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=3)
            self.optuna_study = optuna.create_study(
                study_name=name, storage=self._storage, direction="maximize", load_if_exists=True, pruner=pruner
            )

    def setdefault(self, key: str, value: Any) -> Any:
        """The study's attribute; the first process to ask sets it to `value`. Raises InputError for another type."""
        with self._lock:
            if key not in self.optuna_study.user_attrs:
                self.optuna_study.set_user_attr(key, value)
            found = self.optuna_study.user_attrs[key]
        if type(found) is not type(value):
            raise InputError(f"the study's {key} is damaged; use --study NAME for another")
        return found

    def next(self, total: int, space: Space) -> RunningTrial | None:
        """The next trial to start or to continue; None if none of them waits and `total` have started, or one for each
        combination of the space. A trial whose settings cannot come from the space, because somebody has changed the
        study, fails."""
        with self._lock:  # until the settings are drawn, so that no other process here tries the same combination
            while taken := self._take(total, space):
                trial, run, lock = taken
                try:
                    _settings(trial, space)  # first, or Optuna would warn
                    self._draw(trial, space)
                    return RunningTrial(self, trial, space, run, lock)
                except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                    trial.set_user_attr("reason", str(error))
                    self.optuna_study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
                    lock.release()
        return None

    def is_exhausted(self, space: Space) -> bool:
        """Whether every combination of a space of lists has a trial, be it complete, pruned, failed or unfinished."""
        lists = _finite(space)
        return bool(lists) and len(self._tried(lists)) == math.prod(map(len, lists.values()))

    def _tried(self, lists: Lists) -> set[tuple[Value, ...]]:
        """The combinations that have a trial; somebody may have added trials with other options or values."""
        return {
            tuple(trial.params[name] for name in lists)
            for trial in self.optuna_study.get_trials(deepcopy=False)
            if all(name in trial.params and trial.params[name] in values for name, values in lists.items())
        }

    def _take(self, total: int, space: Space) -> tuple[optuna.Trial, Path, FileLock] | None:
        """Claim a trial for this process, which holds the study's lock; returns it, its folder and the lock that holds
        it."""
        for running in self.optuna_study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_abandoned(running):
                self.requeue(running)
        started = (*STATES.values(), TrialState.RUNNING)
        if len(self.optuna_study.get_trials(deepcopy=False, states=started)) >= total:
            return None
        if not self.optuna_study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            if self.is_exhausted(space):
                return None
            if lists := _finite(space):
                self._enqueue_untried(lists)
        trial = self.optuna_study.ask()
        if trial.number >= total:  # another machine, which does not see our lock, was faster
            self.requeue(trial)
            return None
        run = self.folder / f"trial_{trial.number}"
        run.mkdir(exist_ok=True)
        lock = FileLock(run / ".trial.lock")
        lock.acquire()
        trial.set_user_attr("place", self._location)
        return trial, run, lock

    def _enqueue_untried(self, lists: Lists) -> None:
        """Let the next trial have a combination at random that none has had. Optuna's BruteForceSampler would end the
        loop of its `optimize`, which is not used here, and refuse a space whose lines have changed places."""
        tried = self._tried(lists)
        generator = random.Random(self._seed_of(len(self.optuna_study.get_trials(deepcopy=False))))
        while (chosen := tuple(map(generator.choice, lists.values()))) in tried:
            pass  # at most as many are tried as there were trials
        self.optuna_study.enqueue_trial(dict(zip(lists, chosen, strict=True)))

    def _seed_of(self, number: int) -> int:
        """The seed for the choice of a trial's settings."""
        return (1000 * self._seed + number) % 2**32

    def _draw(self, trial: optuna.Trial, space: Space) -> None:
        """Let Optuna choose the trial's settings; a continued trial keeps its own."""
        # The draw depends on the seed, the number and all results so far: processes with one seed try different values.
        # constant_liar keeps the sampler away from settings that other processes are trying at the moment.
        sampler = optuna.samplers.TPESampler(seed=self._seed_of(trial.number), constant_liar=True)
        self.optuna_study.sampler = sampler
        for name, values in space.items():
            match values:
                case list():
                    trial.suggest_categorical(name, values)
                case Range(int(low), int(high), int() | None as step, log):
                    trial.suggest_int(name, low, high, step=step or 1, log=log)
                case Range(low, high, step, log):
                    trial.suggest_float(name, low, high, step=step, log=log)

    def requeue(self, trial: optuna.Trial | optuna.trial.FrozenTrial) -> None:
        """Let a trial wait for the next process that asks, under its number and settings, unless it is finished."""
        with suppress(UpdateFinishedTrialError):
            # Private, since Optuna cannot requeue a trial under its own number. Checked with Optuna 5.0.0.
            self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def results(self, space: Space) -> list[TrialResult]:
        """All trials, the best first, see `Validation.rank`; those without a validation last."""
        results = []
        for trial in self.optuna_study.get_trials(deepcopy=False):
            state = trial.state.name.lower().replace("fail", "failed")
            place, reason = (str(trial.user_attrs.get(name, "")) for name in ("place", "reason"))
            folder = self.folder if place == self._location else printable(place)
            try:
                settings, best = _settings(trial, space), _best(trial)
            except InputError as error:
                state, settings, best, reason = "failed", {}, None, str(error)
            run = f"{folder}/trial_{trial.number}"
            results.append(TrialResult(trial.number, state, settings, best, run, printable(reason)))
        return sorted(results, key=lambda result: result.best.rank() if result.best else (), reverse=True)

    def _is_abandoned(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether the process of a running trial is dead, and so is the fit that it started."""
        if trial.user_attrs.get("place") != self._location:
            started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
            alive = trial.user_attrs.get("alive")
            return time.time() - max(started, alive if isinstance(alive, float) else 0.0) > HEARTBEAT_TIMEOUT
        run = self.folder / f"trial_{trial.number}"
        if not run.is_dir():
            return True
        with suppress(Timeout), FileLock(run / ".trial.lock", timeout=0), FileLock(run / LOCK, timeout=0):
            return True
        return False


def _finite(space: Space) -> Lists:
    """The space if it consists of lists, which have finitely many combinations; else an empty one."""
    lists = {name: values for name, values in space.items() if isinstance(values, list)}
    return lists if len(lists) == len(space) else {}


# Whoever can write to the journal or the database may have written anything there.
def _settings(trial: optuna.Trial | optuna.trial.FrozenTrial, space: Space) -> dict[str, Any]:
    """What a trial is trained with: numbers drawn from a continuous range have a few digits, so they can be typed.
    Raises InputError for an option or a value that is not in the space."""
    settings = dict(trial.params)
    for name, drawn_from in trial.distributions.items():
        value, given = settings[name], space.get(name)
        known = given is not None and drawn_from == _distribution(given)
        if known and isinstance(given, Range):
            known = isinstance(value, int | float) and given.low <= value <= given.high
            if known and isinstance(drawn_from, FloatDistribution) and given.step is None:
                rounded = float(f"{value:.{SIGNIFICANT_DIGITS}g}")
                settings[name] = min(max(rounded, drawn_from.low), drawn_from.high)
        require(f"the trial's {name}", str(value)[:50], "one from the space", known)
    return settings


def _distribution(given: Range | list[Value]) -> BaseDistribution:
    """The distribution that Optuna records for a value drawn from this part of the space."""
    match given:
        case Range(int(low), int(high), int() | None as step, log):
            return IntDistribution(low, high, log, step or 1)
        case Range(low, high, step, log):
            return FloatDistribution(low, high, log, step)
        case values:
            return CategoricalDistribution(values)


def _best(trial: optuna.trial.FrozenTrial) -> Validation | None:
    """The trial's best validation so far, if any. Raises InputError if what is stored cannot be one."""
    match trial.user_attrs.get("best"):
        case None:
            return None
        case [int() | float() as acc, int() | float() as loss, int(epoch)] if 0 <= acc <= 1 and abs(loss) < math.inf:
            return Validation(acc, loss, epoch)
        case other:
            raise InputError(f"the trial's best validation: expected accuracy, loss and epoch, got {str(other)[:50]}")


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
    """Turn storage errors inside the block into one line without secrets: InputError while opening, OSError later."""
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
