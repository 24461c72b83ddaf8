"""What the benchmarks share: measured processes, comparison tables, JSON results and command-line options.

Variants run in turn for several rounds. Seconds drift on a shared machine; the ratio of two variants measured in
the same round drifts much less.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FIT_RATE = re.compile(r"time +([\d.]+) s +\(([\d,]+) images/s")  # in the table that `mnist-lit fit` prints


def machine_info() -> dict[str, Any]:
    """The machine, the library versions and the commit."""
    import torch

    from mnist_lit.runs.versions import run_versions

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {**run_versions(), "gpu": gpu, "date": time.strftime("%Y-%m-%d")}


class FitRun(NamedTuple):
    """The cost of one `mnist-lit fit` in a process of its own."""

    images_per_second: float  # while training
    seconds: float  # the whole process, setup included
    training: float  # seconds from before the first step to after the last, validation and checkpoints included
    peak_mib: float  # peak resident memory


def fit(*args: str, folder: str | Path | None = None) -> FitRun:
    """Run `mnist-lit fit` in a folder; by default a temporary one."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "mnist_lit", "fit", *args]
        seconds, peak_mib, output = measure_command(command, folder or temporary)
    rate = FIT_RATE.search(output)
    assert rate, output
    return FitRun(float(rate[2].replace(",", "")), seconds, float(rate[1]), peak_mib)


# Linux starts a child's peak memory at what its parent had in memory when it forked. So a small interpreter starts the
# command: its own few MiB are below any peak that matters here.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as peak:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=peak)
sys.exit(code)
"""


def measure_command(command: Sequence[str], folder: str | Path | None = None) -> tuple[float, float, str]:
    """Run a command; returns its seconds, the peak MiB of its largest process, and its output."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.NamedTemporaryFile("r", suffix=".peak") as peak:
        launcher = [sys.executable, "-S", "-c", LAUNCHER, peak.name, *command]
        start = time.perf_counter()
        run = subprocess.run(launcher, cwd=folder, stdout=stdout, stderr=subprocess.STDOUT, check=False)
        seconds = time.perf_counter() - start
        stdout.seek(0)
        output = stdout.read()
        assert run.returncode == 0, output
        return seconds, maxrss_mib(int(peak.read())), output


def maxrss_mib(maxrss: int) -> float:
    """`ru_maxrss` in MiB; macOS counts bytes, Linux KiB."""
    return maxrss / (1 << (20 if sys.platform == "darwin" else 10))


def report(name: str, unit: str, rounds: Mapping[str, list[float]], reference: str, output: Path | None) -> None:
    """Print each variant's median, range and median per-round ratio to the reference; save all values as JSON."""
    machine = machine_info()
    cpu, threads = machine["cpu"], machine["threads"]
    print(f"{name}, {unit}; {cpu}, {threads} threads, torch {machine['torch']}, {machine['date']}\n")
    print(f"| variant | median | lowest – highest | ratio to {reference} (median of rounds) | n |")
    print("|---|---|---|---|---|")
    for variant, values in rounds.items():
        ratio = statistics.median(value / other for value, other in zip(values, rounds[reference], strict=True))
        span = f"{min(values):.4g} – {max(values):.4g}"
        print(f"| {variant} | {statistics.median(values):.4g} | {span} | {ratio:.4f} | {len(values)} |")
    save_results(output, name, {"unit": unit, "rounds": rounds}, machine)


def save_results(
    output: Path | None, name: str, results: Mapping[str, Any], machine: Mapping[str, Any] | None = None
) -> None:
    """Write results, machine and versions as JSON; does nothing without an output file."""
    if output:
        content = {"name": name, **results, "machine": machine or machine_info()}
        output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def benchmark_parser(doc: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with `--output` and one option per keyword, of the type of its default."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="save every value to this JSON file")
    for name, value in defaults.items():
        about = "folder with MNIST's four archives; " if name == "data_dir" else ""
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"{about}default: {value}")
    return parser
