"""Contestants side by side: run in turn, several rounds, medians and ratios, one JSON and one table.

On a shared machine seconds drift; the ratio of two things measured in turn drifts much less.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RATE = re.compile(r"time +[\d.]+ s  \(([\d,]+) images/s while training\)")


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
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "lightning": lightning.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def fit(*args: str) -> float:
    """Run `mnist-lit fit` in a folder of its own: its images a second while training."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mnist_lit", "fit", *args]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    told = RATE.search(run.stdout)
    assert told, run.stdout
    return float(told[1].replace(",", ""))


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
    if output:
        output.write_text(json.dumps({"name": name, "unit": unit, "rounds": rounds, "machine": facts}, indent=1) + "\n")
