"""Contestants side by side: run in turn, several rounds, medians and ratios, one JSON and one table.

On a shared machine seconds drift; the ratio of two things measured in turn drifts much less.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RATE = re.compile(r"time +([\d.]+) s  \(([\d,]+) images/s while training\)")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import lightning
    import torch

    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        model = names[0] if names else model
    return {
        "cpu": f"{os.cpu_count()} × {model}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "lightning": lightning.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


STARTER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as peak:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=peak)
sys.exit(code)
"""


class Fit(NamedTuple):
    """What a fit in a process of its own took."""

    images_per_second: float  # while training
    seconds: float  # from the command to its end, all set-up included
    training: float  # seconds of it from before the first step to after the last, validations and saves included
    peak_mib: float  # of resident memory


def fit(*args: str, folder: str | Path | None = None) -> Fit:
    """Run `mnist-lit fit` in a folder, by default one of its own that is removed."""
    with tempfile.TemporaryDirectory() as own:
        command = [sys.executable, "-m", "mnist_lit", "fit", *args]
        seconds, peak, said = measured(command, folder or own)
    told = RATE.search(said)
    assert told, said
    return Fit(float(told[2].replace(",", "")), seconds, float(told[1]), peak)


def measured(command: Sequence[str], folder: str | Path | None = None) -> tuple[float, float, str]:
    """Run a command to its end: seconds, MiB of its largest process at its peak, and what it printed.

    A small process of its own starts it: Linux counts to a process what the one that started it had in memory.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.NamedTemporaryFile("r", suffix=".peak") as peak:
        starter = [sys.executable, "-S", "-c", STARTER, peak.name, *command]
        begun = time.perf_counter()
        run = subprocess.run(starter, cwd=folder, stdout=out, stderr=subprocess.STDOUT, check=False)
        seconds = time.perf_counter() - begun
        out.seek(0)
        said = out.read()
        assert run.returncode == 0, said
        return seconds, mebibytes(int(peak.read())), said


def mebibytes(maxrss: int) -> float:
    """What the operating system says of a process's peak memory, in MiB."""
    return maxrss / (1 << (20 if sys.platform == "darwin" else 10))


def report(name: str, unit: str, rounds: Mapping[str, list[float]], reference: str, output: Path | None) -> None:
    """Print medians, ranges and ratios round by round to the reference; write everything as JSON if asked to."""
    facts = machine()
    print(f"{name}, {unit}; {facts['cpu']}, {facts['threads']} threads, torch {facts['torch']}, {facts['date']}\n")
    print(f"| contestant | median | lowest – highest | ratio to {reference} (median of rounds) | n |")
    print("|---|---|---|---|---|")
    for contestant, values in rounds.items():
        ratios = [value / other for value, other in zip(values, rounds[reference], strict=True)]
        row = (f"{statistics.median(values):.4g}", f"{min(values):.4g} – {max(values):.4g}")
        print(f"| {contestant} | {row[0]} | {row[1]} | {statistics.median(ratios):.4f} | {len(values)} |")
    keep(output, name, {"unit": unit, "rounds": rounds}, facts)


def keep(output: Path | None, name: str, found: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> None:
    """Write what was found as JSON, with the machine and the versions, if a file was asked for."""
    if output:
        content = {"name": name, **found, "machine": facts or machine()}
        output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def options(doc: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with the options that benchmarks share; `rounds` and others by their defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default="data", help="holds MNIST's archives")
    parser.add_argument("--output", type=Path, help="JSON file")
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"default: {value}")
    return parser
