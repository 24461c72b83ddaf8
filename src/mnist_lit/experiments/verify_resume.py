"""`mnist-lit verify-resume`: train once undisturbed and once under kills, and compare bit for bit.

Runs the command itself, in processes of its own, and kills them with SIGKILL. Trains nothing here.
"""

import csv
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from mnist_lit.errors import InputError
from mnist_lit.runs.checkpoint import METADATA_KEY, load_checkpoint
from mnist_lit.runs.folders import LAST_CKPT, LOGS, PREVIOUS_CKPT, all_runs

__all__ = ["KillableFit", "ValidationMarker", "curve_difference", "state_difference", "verify_resume"]

CLOCKS = ("train/images_per_second",)  # scalars that no two runs share
STATE = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "best", "train_scores", "epoch", "global_step")
VALIDATING, VALIDATED = "validating", "validated"  # files that `Validating` leaves for who kills
FIRST, STARTING, TRAINING, SAVE, VALIDATION = MOMENTS = (
    "in the first second",
    "while starting",
    "while training",
    "during a save",
    "during a validation",
)


def verify_resume(fit: Sequence[str], kills: int, seed: int, folder: Path) -> int:
    """Train once undisturbed and once with `kills` kills, both in `folder`; return 0 only if all bits are equal."""
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    whole = KillableFit(fit, undisturbed)
    whole.finish()
    print(f"undisturbed: {whole.ended - whole.began:.1f} s, {whole.steps()} steps", flush=True)
    draw = random.Random(seed)
    # Each kind in turn, so that also a few kills meet them all; together they leave the run some way to go.
    kinds = [TRAINING, SAVE, *([VALIDATION] if undisturbed.joinpath(VALIDATED).exists() else []), FIRST, STARTING]
    most = {FIRST: 1.0, STARTING: whole.started - whole.began}  # seconds
    counts = dict.fromkeys(kinds, 0)
    resuming = KillableFit([*fit, "--resume", "auto"], killed)
    for number in range(kills):
        moment = kinds[number % len(kinds)]
        seconds = draw.uniform(0, most.get(moment, (whole.ended - whole.started) / kills))
        if not _kill(resuming, moment, seconds):
            break  # too little is left of it
        counts[moment] += 1
        print(f"kill {number + 1}: {moment}", flush=True)
    resuming.finish()
    said = ", ".join(f"{count} {moment}" for moment, count in counts.items() if count)
    print(f"killed: {sum(counts.values())} times" + (f" ({said})" if said else ""))
    if kills and not any(counts.values()):
        print("nothing was verified: the fit ended before it could be killed; make it longer")
        return 1
    return _judge(*(_run(place) for place in (undisturbed, killed)))


def _kill(resuming: "KillableFit", moment: str, seconds: float) -> bool:
    """Kill at a moment; where the run is faster than that, set it back and try again in half the time, a few times."""
    resuming.folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as before:
        shutil.copytree(resuming.folder, before, dirs_exist_ok=True)
        for attempt in range(4):
            if resuming.kill(moment, seconds / 2**attempt):
                return True
            shutil.rmtree(resuming.folder)
            shutil.copytree(before, resuming.folder)
    return False


def _judge(one: Path, other: Path) -> int:
    tensors = 0
    lines = []
    for path in sorted(one.glob("checkpoints/*.ckpt")):
        twin = other / "checkpoints" / path.name
        if path.name == PREVIOUS_CKPT:  # the one before the last: a kill may add one
            continue
        if not twin.is_file():
            lines.append(f"{path.name}: missing")
            continue
        contents = load_checkpoint(path), load_checkpoint(twin)
        tensors += sum(1 for _, value in _leaves(contents[0]) if isinstance(value, Tensor))
        if found := state_difference(*contents):
            lines.append(f"{path.name}: first at {found}")
    if found := curve_difference(one, other):
        lines.append(f"curves: {found}")
    print(*([f"different: {line}" for line in lines] or [f"equal: {tensors} tensors and every curve"]), sep="\n")
    return 1 if lines else 0


def state_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first place where two checkpoints' training states differ in a bit, or None. Not compared: their paths."""
    told = ("scores", "calibration")
    scores = [{name: content[METADATA_KEY].get(name) for name in told} for content in (one, other)]
    mine, theirs = (
        dict(_leaves({**{key: content.get(key) for key in STATE}, **score}))
        for content, score in zip((one, other), scores, strict=True)
    )
    for place in [*mine, *(place for place in theirs if place not in mine)]:
        if place not in mine or place not in theirs:
            return f"{place}, which only one has"
        a, b = mine[place], theirs[place]
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            if a.dtype != b.dtype or not torch.equal(a, b):
                where = int((a != b).flatten().nonzero()[0]) if a.shape == b.shape and a.dtype == b.dtype else 0
                return f"{place}, element {where} of {a.numel()}"
        elif a != b:
            return f"{place}: {a} and {b}"
    return None


def curve_difference(one: Path, other: Path) -> str | None:
    """The first step where two runs' scalars differ, are missing or doubled, or None. Of speeds only steps count."""
    for read in (_table, _events):
        mine, theirs = (sorted(read(run), key=lambda point: (point[1], point[0])) for run in (one, other))
        for a, b in zip(mine, theirs, strict=False):
            if a != b:
                return f"first at step {min(a[1], b[1])}: {_said(a)} and {_said(b)}"
        if len(mine) != len(theirs):
            return f"{len(mine)} and {len(theirs)} points"
    return None


class ValidationMarker(Callback):
    """Shows from outside that a fit is validating, which nothing else does."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave a file."""
        if trainer.is_global_zero:
            Path(trainer.default_root_dir, VALIDATING).touch()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Rename it."""
        if trainer.is_global_zero:
            Path(trainer.default_root_dir, VALIDATING).rename(Path(trainer.default_root_dir, VALIDATED))


class KillableFit:
    """A fit in a process of its own, and when it began, took its first step and ended, in seconds."""

    def __init__(self, fit: Sequence[str], folder: Path) -> None:
        self.folder = folder
        fit = [
            *fit,
            "--trainer.callbacks+",
            "mnist_lit.experiments.verify_resume.ValidationMarker",
            "--trainer.default_root_dir",
            str(folder),
        ]
        self._command = [sys.executable, "-m", "mnist_lit", "fit", *fit]
        self.began = self.started = self.ended = 0.0

    def finish(self) -> None:
        """Run to the end. Raises InputError with the fit's own line if it fails."""
        with tempfile.TemporaryFile() as said:
            process = self._start(said)
            try:
                self._wait_for_steps(process, said)
                code = process.wait()
            finally:
                process.kill()
            self.ended = time.monotonic()
            self.started = self.started or self.ended
            if code:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
                raise InputError(f"the fit failed: {lines[-1].removeprefix('mnist-lit: ')}")

    def kill(self, moment: str, seconds: float) -> bool:
        """Start and kill: so many seconds after the start or the first step, or at the next save or validation after.

        False if the process ended before.
        """
        self.folder.joinpath(VALIDATING).unlink(missing_ok=True)
        with tempfile.TemporaryFile() as said:
            process = self._start(said)
            if moment not in (FIRST, STARTING):
                self._wait_for_steps(process, said)
            until = time.monotonic() + seconds
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.001)
            awaited = {SAVE: f"{LOGS}/*/checkpoints/.*.part", VALIDATION: VALIDATING}.get(moment)
            while awaited and process.poll() is None and not any(self.folder.glob(awaited)):
                pass
            if moment == VALIDATION:
                time.sleep(seconds % 0.2)
            if process.poll() is not None:
                return False
            process.kill()
            process.wait()
            return True

    def steps(self) -> int:
        """How many steps its newest checkpoint has."""
        return int(load_checkpoint(_run(self.folder) / "checkpoints" / LAST_CKPT)["global_step"])

    def _start(self, said: Any) -> subprocess.Popen[bytes]:
        self.began = time.monotonic()
        return subprocess.Popen(self._command, stdout=said, stderr=subprocess.STDOUT)

    def _wait_for_steps(self, process: subprocess.Popen[bytes], said: Any) -> None:
        while process.poll() is None:
            said.seek(0)
            if b"fit: " in said.read():
                self.started = time.monotonic()
                return
            time.sleep(0.005)


def _run(folder: Path) -> Path:
    found = all_runs(folder / LOGS)
    if len(found) != 1 or not found[0].joinpath("checkpoints", LAST_CKPT).is_file():
        raise InputError(f"expected one run with a checkpoint in {folder}, got {len(found)}")
    return found[0]


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Each value within dicts and lists, with its place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{place}[{number}]")
    else:
        yield place, value


def _table(run: Path) -> Iterator[tuple[str, int, str]]:
    with run.joinpath("metrics.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            for name, value in row.items():
                if value:
                    yield name, step, "" if name in CLOCKS else value


def _events(run: Path) -> Iterator[tuple[str, int, str]]:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()  # 0: all of them
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            yield name, event.step, "" if name in CLOCKS else repr(event.value)
    for name in events.Tags()["images"]:
        for image in events.Images(name):
            yield name, image.step, str(hash(image.encoded_image_string))


def _said(point: tuple[str, int, str]) -> str:
    name, step, value = point
    return f"{name} {value} at step {step}"
