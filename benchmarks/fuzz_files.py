"""Damaged and hostile files, seeded, through the command line: each is refused in one line, or read without harm.

    python benchmarks/fuzz_files.py --cases 2000 --jobs 2
    python benchmarks/fuzz_files.py --kinds checkpoint --cases 1 --first 1234    # one case again, with what it printed

Each case is a fork of this process, which has imported everything. Time and memory are what a case takes beyond the
same command with the undamaged file. `equal` means that the command printed what it prints for the undamaged file.
"""

import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from PIL import Image, ImageDraw

from measurement import benchmark_parser, machine_info, save_results
from mnist_lit.cli import calibrate, export, lightning, predict, report, runs  # noqa: F401  # once for all forks
from mnist_lit.cli.main import main as mnist_lit
from mnist_lit.runs.recipes import recipes_dir

MAX_SECONDS, MAX_MEGABYTES = 2.0, 300.0  # of CPU time and memory, beyond the undamaged file's
DIGITS = ("--data.dataset", "digits", "--figures", "false")
FIT = (*DIGITS, "--data.val_size", "64", "--data.batch_size", "32", "--trainer.limit_train_batches", "2")
WILD: list[Any] = [
    *(None, True, -1, 0, 10**7, 10**30, 1e308, float("nan"), float("inf"), "", "x" * 10_000, "\x1b[2J", "é\u202e\0"),
    *([], {}, [[[[]]]], {"a": {"b": 1}}, [0] * 1000, {"class_path": "os.system", "init_args": {"command": "id"}}),
]
WILD_TENSORS: list[Callable[[], torch.Tensor]] = [
    *(lambda: torch.zeros(0), lambda: torch.full((3,), torch.nan), lambda: torch.zeros(1).expand(10**9)),
    *(lambda: torch.ones(2, 2, dtype=torch.int8), lambda: torch.zeros(3, dtype=torch.complex64)),
]
SNIPPETS = [
    *("&a ", "*a", "<<: *a", "!!python/object/apply:os.getcwd []", "[" * 50, "{a: ", "9" * 5000, "2026-02-31", "1e999"),
    *(".nan", "\t", "\0", "é", "---\n", "? ", "|\n", "'", '"', "#", "- ", ": ", "!!binary x", "0o17", "~", "%YAML 9\n"),
    *("class_path: os.system", "  " * 40 + "a:\n", "a: &b [*b]", "\x1b[2J", "\ufeff", "x" * 70_000),
]
CELLS = ['"', '"' + "9" * 140_000, "nan", "inf", "-1", "1e999", "\x1b[2J", "é" * 50, "9" * 5000, "", "\0", ",,,", "x"]


class Case(NamedTuple):
    """What to run, once with a good file and once with a bad one."""

    command: tuple[str, ...]
    path: str  # of the file
    content: bytes


class Outcome(NamedTuple):
    """What a command did."""

    kind: str  # ok, refused or traceback
    printed: str
    seconds: float
    megabytes: float


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Flipped, overwritten, cut, repeated or moved bytes."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 3))):
        start = draw.randrange(len(data) or 1)
        end = min(start + draw.choice((1, 1, 4, 64, 4096)), len(data))
        match draw.randrange(7):
            case 0:
                data[start:end] = (byte ^ (1 << draw.randrange(8)) for byte in data[start:end])
            case 1:
                data[start:end] = draw.randbytes(end - start)
            case 2:
                data[start:end] = bytes(end - start)
            case 3:
                del data[start:]
            case 4:
                del data[start:end]
            case 5:
                data[start:start] = data[start:end] * draw.choice((1, 2, 50))
            case 6:
                block = data[start:end]
                del data[start:end]
                at = draw.randrange(len(data) + 1)
                data[at:at] = block
    return bytes(data)


def wild_checkpoint(content: bytes, draw: random.Random) -> bytes:
    """A well-formed checkpoint in which one or two values are others, or missing."""
    changed = torch.load(io.BytesIO(content), weights_only=True)
    for _ in range(draw.choice((1, 1, 2))):
        inner: Any = changed
        while True:
            keys = [*inner] if isinstance(inner, dict) else range(len(inner))
            if not keys:
                break
            key = draw.choice(keys)
            if isinstance(inner[key], dict | list) and inner[key] and draw.random() < 0.8:
                inner = inner[key]
                continue
            if draw.random() < 0.2:
                del inner[key]
            else:
                inner[key] = draw.choice(WILD_TENSORS)() if draw.random() < 0.4 else draw.choice(WILD)
            break
    file = io.BytesIO()
    torch.save(changed, file)
    return file.getvalue()


def wild_yaml(content: bytes, draw: random.Random) -> bytes:
    """A config with odd text in some places, or with odd values."""
    if draw.random() < 0.4:
        sections = yaml.safe_load(content)
        name = draw.choice([name for name, section in sections.items() if isinstance(section, dict)])
        sections[name][draw.choice([*sections[name], "callbacks", "network", "x"])] = draw.choice(WILD)
        return yaml.safe_dump(sections, allow_unicode=draw.random() < 0.5).encode("utf-8", "replace")
    lines = content.decode().splitlines()
    for _ in range(draw.choice((1, 1, 2, 5))):
        at = draw.randrange(len(lines))
        column = draw.randrange(len(lines[at]) + 1)
        lines[at] = lines[at][:column] + draw.choice(SNIPPETS) + lines[at][column:]
    return "\n".join(lines).encode()


def wild_csv(content: bytes, draw: random.Random) -> bytes:
    """A table with odd cells, rows or quotes."""
    lines = content.decode().splitlines()
    for _ in range(draw.choice((1, 3, 10))):
        at = draw.randrange(len(lines))
        cells = lines[at].split(",")
        cells[draw.randrange(len(cells))] = draw.choice(CELLS)
        lines[at] = ",".join(cells)
    return "\r\n".join(lines).encode()


def cases(kind: str, folder: Path) -> tuple[list[Case], Callable[[bytes, random.Random], bytes]]:
    """The commands for a kind of file, with the good file, and what makes it hostile."""
    best = folder / "lightning_logs/version_0/checkpoints/best.ckpt"
    last = folder / "lightning_logs/version_0/checkpoints/last.ckpt"
    if kind == "checkpoint":
        commands = [
            *[("predict", "one.png", "--model", "a.ckpt")] * 4,  # the fastest, most often
            ("test", "--ckpt_path", "a.ckpt", "--data.dataset", "digits"),
            ("export", "--model", "a.ckpt", "--output", "a.onnx"),
            ("fit", *FIT, "--ckpt_path", "a.ckpt", "--trainer.max_epochs", "2"),
            ("fit", *FIT, "--resume", "auto", "--trainer.max_epochs", "1"),
        ]
        paths = [*["a.ckpt"] * 7, "lightning_logs/version_0/checkpoints/last.ckpt"]
        contents = [best.read_bytes()] * 6 + [last.read_bytes()] * 2
        return [Case(*parts) for parts in zip(commands, paths, contents, strict=True)], wild_checkpoint
    if kind == "config":
        recipe, run = (folder / "lightning_logs/version_0/config.yaml").read_bytes(), "lightning_logs/version_0"
        shipped = [path.read_bytes() for path in sorted(recipes_dir().glob("*.yaml"))]
        parsed = [Case(("fit", "--config", "c.yaml", "--print_config"), "c.yaml", text) for text in (recipe, *shipped)]
        resumed = Case(("fit", *FIT, "--resume", "auto", "--trainer.max_epochs", "1"), f"{run}/config.yaml", recipe)
        return [*parsed, resumed, Case(("runs",), f"{run}/config.yaml", recipe)], wild_yaml
    if kind == "metrics":
        path = "lightning_logs/version_0/metrics.csv"
        content = folder.joinpath(path).read_bytes()
        resume = ("fit", *FIT, "--resume", "auto", "--trainer.max_epochs", "1")
        return [*[Case(("runs",), path, content)] * 4, Case(resume, path, content)], wild_csv
    onnx = folder.joinpath("good.onnx").read_bytes()
    return [Case(("predict", "one.png", "--model", "a.onnx"), "a.onnx", onnx)], damaged


def prepare(folder: Path) -> None:
    """A picture, a short finished run and an exported model; the run lacks its mark, so that it can be resumed."""
    picture = Image.new("L", (60, 60), 255)
    ImageDraw.Draw(picture).line((30, 10, 30, 50), 0, 6)
    picture.save(folder / "one.png")
    assert attempt(folder, ("fit", *FIT, "--trainer.max_epochs", "1")).kind == "ok"
    assert attempt(folder, ("export", "--model", "latest", "--output", "good.onnx")).kind == "ok"
    folder.joinpath("lightning_logs/version_0/finished").unlink()


def attempt(folder: Path, command: tuple[str, ...]) -> Outcome:
    """Run a command in a fork, in a folder."""
    output = folder / "printed"
    child = os.fork()
    if not child:
        code = 70
        with contextlib.suppress(BaseException):
            os.chdir(folder)
            stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            torch.set_num_threads(1)
            signal.alarm(300)
            code = _run(command)
            sys.stdout.flush()
        os._exit(code)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    printed = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    kind = "ok" if code in (0, 1) and "Traceback" not in printed else "traceback"
    if code == 2 and "Traceback" not in printed:
        kind = "refused"
    return Outcome(kind, printed, usage.ru_utime + usage.ru_stime, max(usage.ru_maxrss - before, 0) / 1024)


def _run(command: tuple[str, ...]) -> int:
    try:
        return mnist_lit([*command])
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        return 70


def fuzz(kind: str, numbers: range) -> Iterator[tuple[int, str, Outcome, float, float]]:
    """Each case's number, outcome and what it took beyond the undamaged file: CPU seconds and megabytes."""
    with tempfile.TemporaryDirectory() as name:
        good, bad = Path(name, "good"), Path(name, "bad")
        good.mkdir()
        prepare(good)
        known, make_wild = cases(kind, good)
        usual, costs = dict[int, Outcome](), dict[int, tuple[float, float]]()
        for number in numbers:
            draw = random.Random(f"{kind} {number}")
            index = draw.randrange(len(known))
            case = known[index]
            if index not in usual:
                usual[index] = _in_copy(good, bad, case, case.content)
                assert usual[index].kind == "ok", usual[index].printed
                without = _in_copy(good, bad, case, None)  # a fit may start from scratch instead of resuming
                costs[index] = (
                    max(usual[index].seconds, without.seconds),
                    max(usual[index].megabytes, without.megabytes),
                )
            content = (make_wild if draw.random() < 0.5 else damaged)(case.content, draw)
            outcome = _in_copy(good, bad, case, content)
            what = outcome.kind
            if what == "ok":
                what = "equal" if _comparable(outcome) == _comparable(usual[index]) else "changed"
            extra = outcome.seconds - costs[index][0], outcome.megabytes - costs[index][1]
            yield number, what, outcome, *extra


def _comparable(outcome: Outcome) -> list[str]:
    return [line for line in outcome.printed.splitlines() if "images/s" not in line and "resume:" not in line]


def _in_copy(good: Path, bad: Path, case: Case, content: bytes | None) -> Outcome:
    shutil.rmtree(bad, ignore_errors=True)
    shutil.copytree(good, bad)
    if content is None:
        bad.joinpath(case.path).unlink(missing_ok=True)
    else:
        bad.joinpath(case.path).write_bytes(content)
    return attempt(bad, case.command)


def main() -> int:
    """Fuzz every kind of file; returns 1 if anything was neither refused nor read within the limits."""
    kinds = ("checkpoint", "config", "metrics", "onnx")
    parser = benchmark_parser(__doc__, cases=200, first=0, jobs=1, kinds=",".join(kinds))
    options = parser.parse_args()
    rows, failed = [], False
    print("| File | Cases | Refused | Equal | Changed | Tracebacks | Slowest, s | Largest, MB |\n|" + "---|" * 8)
    for kind in options.kinds.split(","):
        counts, seconds, megabytes = Counter[str](), 0.0, 0.0
        for found in _side_by_side(kind, options.first, options.cases, options.jobs):
            number, what, printed, slow, large = found
            counts[what] += 1
            seconds, megabytes = max(seconds, slow), max(megabytes, large)
            if what == "traceback" or slow > MAX_SECONDS or large > MAX_MEGABYTES or options.cases == 1:
                failed = failed or options.cases > 1
                print(f"{kind} {number}: {what}, {slow:.1f} s, {large:.0f} MB\n{printed[-3000:]}", flush=True)
        failed = failed or counts.total() != options.cases
        columns = [str(counts.total()), *(f"{counts[what]}" for what in ("refused", "equal", "changed", "traceback"))]
        rows.append([kind, *columns, f"{seconds:.2f}", f"{megabytes:.0f}"])
        print(f"| {' | '.join(rows[-1])} |", flush=True)
    save_results(options.output, "fuzz", {"rows": rows}, machine_info())
    return int(failed)


def _side_by_side(kind: str, first: int, number: int, jobs: int) -> Iterator[tuple[int, str, str, float, float]]:
    """The outcomes of all cases, from several forks."""
    readers = []
    for job in range(jobs):
        receiver, sender = os.pipe()
        if not os.fork():
            with os.fdopen(sender, "w") as file:
                for case, what, outcome, slow, large in fuzz(kind, range(first + job, first + number, jobs)):
                    print(json.dumps([case, what, outcome.printed, slow, large]), file=file, flush=True)
            os._exit(0)
        os.close(sender)
        readers.append(os.fdopen(receiver))
    for reader in readers:
        for line in reader:
            yield tuple(json.loads(line))
    for _ in readers:
        os.wait()


if __name__ == "__main__":
    sys.exit(main())
