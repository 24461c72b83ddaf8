"""Prove that a killed run resumes exactly: train once uninterrupted and once with kills, and compare bit for bit.
The fits are subprocesses, killed with SIGKILL, which gives them no chance to clean up. So what survives it also
survives a power cut or the kernel's out-of-memory killer."""

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from subprocess import STDOUT, Popen, TimeoutExpired
from typing import Any

import lightning.pytorch as pl
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from mnist_lit.errors import InputError
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.folders import CHECKPOINTS, LAST_CKPT, LOGS, METRICS_CSV, PREVIOUS_CKPT, all_runs
from mnist_lit.runs.metadata import METADATA_KEY
from mnist_lit.system.console import say
from mnist_lit.system.csv_file import read_csv
from mnist_lit.system.subprocesses import last_line, start_command

SPEEDS = ("train/images_per_second",)  # scalars that differ between any two runs; only their steps are compared
STATE = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "best", "train_scores", "epoch", "global_step")
METADATA = ("scores", "calibration")  # the part of the metadata that must be equal too
VALIDATING, VALIDATED = "validating", "validated"  # files of `ValidationMarker`
FIRST_SECOND, STARTING, TRAINING = "in the first second", "while starting", "while training"  # moments to kill at
SAVING, IN_VALIDATION = "during a save", "during a validation"

Point = tuple[int, str, str]  # step, name, value


def verify_resume(fit: Sequence[str], kills: int, seed: int, folder: Path) -> int:
    """Train once uninterrupted and once with `kills` kills, both in `folder`; returns 0 only if all bits are equal."""
    uninterrupted = KillableFit(fit, folder / "uninterrupted")
    run = uninterrupted.finish()
    steps = load_checkpoint(run / CHECKPOINTS / LAST_CKPT)["global_step"]
    say(f"uninterrupted: {uninterrupted.ended - uninterrupted.started:.1f} s, {steps} steps", flush=True)
    generator = random.Random(seed)
    # In rotation, so that even a few kills cover all kinds; TRAINING comes first, to leave something to resume from.
    validation = [IN_VALIDATION] if (uninterrupted.folder / VALIDATED).exists() else []
    moments = cycle([TRAINING, SAVING, *validation, FIRST_SECOND, STARTING])
    longest = {FIRST_SECOND: 1.0, STARTING: uninterrupted.trained - uninterrupted.started}  # seconds
    counts: Counter[str] = Counter()
    killed = KillableFit([*fit, "--resume", "auto"], folder / "killed")
    for number, moment in zip(range(kills), moments, strict=False):
        seconds = generator.uniform(0, longest.get(moment, (uninterrupted.ended - uninterrupted.trained) / kills))
        if not _kill(killed, moment, seconds):
            break  # too little of the run is left
        counts[moment] += 1
        say(f"kill {number + 1}: {moment}", flush=True)
    resumed = killed.finish()
    listed = ", ".join(f"{count} {moment}" for moment, count in counts.items())
    missed = kills - counts.total()
    early = f"; the fit ended before {'another kill' if missed == 1 else f'{missed} more kills'}" if missed else ""
    say(f"kills: {counts.total()}" + (f" ({listed})" if listed else "") + early)
    if kills and not listed:
        say("nothing was verified: the fit ended before it could be killed; train for longer")
        return 1
    return _compare(run, resumed)


def _kill(fit: "KillableFit", moment: str, seconds: float) -> bool:
    """Kill at a moment. If the fit ends first, restore its folder and retry after half the time, up to three times."""
    fit.folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as backup:
        shutil.copytree(fit.folder, backup, dirs_exist_ok=True)
        for halvings in range(4):
            if fit.kill(moment, seconds / 2**halvings):
                return True
            shutil.rmtree(fit.folder)
            shutil.copytree(backup, fit.folder)
    return False


def _compare(one: Path, other: Path) -> int:
    """Compare two runs' checkpoints and curves and print the verdict; returns 0 if they are equal, else 1."""
    tensors, differences = 0, []
    previous = one / CHECKPOINTS / PREVIOUS_CKPT  # may be of another step: a kill can cause one more save
    for path in sorted({*one.glob(f"{CHECKPOINTS}/*.ckpt")} - {previous}):
        content, twin = load_checkpoint(path), other / CHECKPOINTS / path.name
        tensors += sum(isinstance(value, Tensor) for _, value in _leaves(content))
        if not twin.is_file():
            differences.append(f"{path.name}: missing")
        elif difference := state_difference(content, load_checkpoint(twin)):
            differences.append(f"{path.name}: first at {difference}")
    if difference := curve_difference(one, other):
        differences.append(f"curves: {difference}")
    lines = [f"different: {line}" for line in differences] or [f"equal: {tensors} tensors and every curve"]
    say(*lines, sep="\n")
    return 1 if differences else 0


def state_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first difference in what decides how training continues, not in paths or versions; None if all bits agree."""
    entries = ({**content, **content[METADATA_KEY]} for content in (one, other))
    mine, theirs = (dict(_leaves({name: found.get(name) for name in (*STATE, *METADATA)})) for found in entries)
    for name in mine | theirs:
        if name not in mine or name not in theirs:
            return f"{name}, which only one has"
        a, b = mine[name], theirs[name]
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            if a.dtype != b.dtype or not a.equal(b):
                element = int((a != b).flatten().nonzero()[0]) if a.shape == b.shape and a.dtype == b.dtype else 0
                return f"{name}, element {element} of {a.numel()}"
        elif a != b:
            return f"{name}: {a} and {b}"
    return None


def curve_difference(one: Path, other: Path) -> str | None:
    """The first difference between two runs' curves, or None: a value that differs, is missing or comes twice."""
    for read in (_csv_points, _tensorboard_points):
        mine, theirs = sorted(read(one)), sorted(read(other))
        for a, b in zip(mine, theirs, strict=False):
            if a != b:
                texts = (f"{name} {value} at step {step}" for step, name, value in (a, b))
                return f"first at step {min(a, b)[0]}: {' and '.join(texts)}"
        if len(mine) != len(theirs):
            return f"{len(mine)} and {len(theirs)} points"
    return None


class ValidationMarker(pl.Callback):
    """Mark a running validation with a file, since nothing else shows it to other processes."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            Path(trainer.default_root_dir, VALIDATING).touch()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            Path(trainer.default_root_dir, VALIDATING).rename(Path(trainer.default_root_dir, VALIDATED))


class KillableFit:
    """A fit in a subprocess, and when it started, began to train and ended, in seconds of the monotonic clock."""

    def __init__(self, fit: Sequence[str], folder: Path) -> None:
        self.folder = folder
        marker = ("--trainer.callbacks+", f"{__name__}.ValidationMarker")
        self._args = [*fit, *marker, "--trainer.default_root_dir", str(folder)]

    def finish(self) -> Path:
        """Run to the end; returns the run folder. Raises InputError with the fit's own error message if it fails."""
        with self._process(wait_for_training=True) as (process, output):
            if code := process.wait():
                raise InputError(f"the fit failed: {last_line(output.read_bytes()) or f'exit code {code}'}")
            self.ended = time.monotonic()
        runs = all_runs(self.folder / LOGS)
        if len(runs) != 1 or not runs[0].joinpath(CHECKPOINTS, LAST_CKPT).is_file():
            raise InputError(f"expected one run with a checkpoint in {self.folder}, got {len(runs)}")
        return runs[0]

    def kill(self, moment: str, seconds: float) -> bool:
        """Start, and kill at the first such moment `seconds` after the start or first step; False if it ends before."""
        self.folder.joinpath(VALIDATING).unlink(missing_ok=True)
        with self._process(wait_for_training=moment not in (FIRST_SECOND, STARTING)) as (process, _):
            with suppress(TimeoutExpired):
                process.wait(seconds)
            sign = {SAVING: f"{LOGS}/*/{CHECKPOINTS}/.*.part", IN_VALIDATION: VALIDATING}.get(moment)
            while sign and process.poll() is None and not any(self.folder.glob(sign)):
                pass  # a save takes milliseconds
            if moment == IN_VALIDATION:
                time.sleep(seconds % 0.2)
            return process.poll() is None

    @contextmanager
    def _process(self, *, wait_for_training: bool) -> Iterator[tuple[Popen[bytes], Path]]:
        """A process of the fit, killed on exit, and the file with its output."""
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder, "output")
            self.started = time.monotonic()
            with output.open("wb") as file, start_command("fit", self._args, stdout=file, stderr=STDOUT) as process:
                try:
                    while wait_for_training and process.poll() is None and b"fit: " not in output.read_bytes():
                        time.sleep(0.005)
                    self.trained = time.monotonic()
                    yield process, output
                finally:
                    process.kill()


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each value in nested dicts and lists, with its path, as `optimizer_states[0].state`."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{index}]")
    else:
        yield name, value


def _csv_points(run: Path) -> Iterator[Point]:
    for row in read_csv(run / METRICS_CSV):
        step = int(row.pop("step"))
        yield from ((step, name, "" if name in SPEEDS else value) for name, value in row.items() if value)


def _tensorboard_points(run: Path) -> Iterator[Point]:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()  # 0: keep all
    for name in events.Tags()["scalars"]:
        yield from ((event.step, name, "" if name in SPEEDS else repr(event.value)) for event in events.Scalars(name))
    for name in events.Tags()["images"]:
        yield from ((image.step, name, str(hash(image.encoded_image_string))) for image in events.Images(name))
