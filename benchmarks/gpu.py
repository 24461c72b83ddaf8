"""Everything about training on one NVIDIA GPU in one command: tests, exactness, speed, accuracy.

    python benchmarks/gpu.py --data_dir data

It prints a table of figures and targets and fails if a target is missed. `--seeds 2 --epochs 2` tries it in minutes.
"""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

import bare_loop
from measurement import benchmark_parser, fit, machine_info, save_results

GRAPH = ("--model.cuda_graph", "true")
BF16 = ("--trainer.precision", "bf16-mixed")
WAYS = {"eager": (), "eager, bf16": BF16, "graph": GRAPH, "graph, bf16": (*GRAPH, *BF16)}
FASTEST = ("--trainer.deterministic", "false")


def run(command: str, *args: str, folder: str) -> subprocess.CompletedProcess[str]:
    """Run a `mnist-lit` command in a folder."""
    program = [sys.executable, "-m", "mnist_lit", command, *args]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)


def steady_rate(run_folder: Path) -> tuple[float, float]:
    """Images per second of a fit, the median between its log steps, and the seconds of all its steps at that rate.

    The first steps, in which libraries choose kernels and the step is captured, are left out.
    """
    with run_folder.joinpath("metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    rate = statistics.median([float(rate) for row in rows if (rate := row.get("train/images_per_second"))][2:])
    config = yaml.safe_load(run_folder.joinpath("config.yaml").read_text(encoding="utf-8"))
    steps = max(int(row["step"]) for row in rows) + 1
    return rate, steps * config["data"]["batch_size"] / rate


def fit_rate(*args: str, data_dir: str) -> float:
    """Images per second of `fit` on the tutorial's recipe, batch 512."""
    with tempfile.TemporaryDirectory() as folder:
        fit("--config", "tutorial", "--data.data_dir", data_dir, "--trainer.max_epochs", "4", *args, folder=folder)
        return steady_rate(Path(folder, "lightning_logs/version_0"))[0]


def training(recipe: str, seeds: int, *args: str, data_dir: str) -> tuple[float, float, str]:
    """Median seconds of all steps, mean percent right on the test images, and both in words."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--config", recipe, "--data.data_dir", data_dir, "--figures", "false", *args]
        fits = [fit(*options, "--seed_everything", str(seed), folder=folder) for seed in range(seeds)]
        runs, accuracies = sorted(Path(folder, "lightning_logs").glob("version_*")), []
        for member in runs:
            out = run("test", "--ckpt_path", str(member), folder=folder).stdout
            accuracies.append(float(out.split("test/acc")[1].split("%")[0]))
        steps = statistics.median(steady_rate(member)[1] for member in runs)
    mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies) if seeds > 1 else 0.0
    whole, started = (statistics.median(getattr(one, name) for one in fits) for name in ("seconds", "training"))
    words = f"{steps:.2f} s of steps, {started:.1f} s of training, {whole:.1f} s whole"
    return steps, mean, f"{words}; test {mean:.3f} ± {spread:.3f} % (n = {seeds})"


def main() -> int:
    """Check and measure everything; returns 1 if a target is missed."""
    parser = benchmark_parser(__doc__, data_dir="data", seeds=10, epochs=0, rounds=3)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu.py: no NVIDIA GPU here")
        return 2
    data_dir, machine = str(Path(options.data_dir).resolve()), machine_info()
    shorter = ("--trainer.max_epochs", str(options.epochs)) if options.epochs else ()
    rows: list[tuple[str, str, str, bool]] = []  # what, figure, target, reached

    def note(what: str, figure: Any, target: str = "", *, reached: bool = True) -> None:
        rows.append((what, str(figure), target, reached))
        print(f"| {what} | {figure} | {target}{'' if reached else ' MISSED'} |", flush=True)

    print(f"{machine['gpu']}, torch {machine['torch']}, {machine['cpu']}, {machine['date']}\n")
    print("| What | Figure | Target |\n|---|---|---|")
    tests = [sys.executable, "-m", "pytest", "-q", "-n0", "-m", "gpu", "tests/gpu"]
    environment = {**os.environ, "MNIST_LIT_TEST_GPU": "0"}
    code = subprocess.run(tests, cwd=Path(__file__).parents[1], env=environment, check=False).returncode
    note("tests/gpu", "pass" if code == 0 else "FAIL", "pass", reached=code == 0)
    for recipe in ("quickstart", "fast", "best"):
        for name, way in WAYS.items():
            few = ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "40", "--data.data_dir", data_dir]
            with tempfile.TemporaryDirectory() as folder:
                done = run("verify-resume", "--kills", "2", "--config", recipe, *few, *way, folder=folder)
            note(f"verify-resume, {recipe}, {name}", "equal" if done.returncode == 0 else "DIFFERENT", "equal",
                 reached=done.returncode == 0)  # fmt: skip
    _speed(note, data_dir, options.rounds)
    for name, way in WAYS.items():
        seconds, accuracy, words = training("fast", options.seeds, *way, *shorter, data_dir=data_dir)
        target = "at most 0.7 s, 99.40 %" if "graph" in name else ""
        note(f"fast, {name}", words, target, reached=not target or (seconds <= 0.7 and accuracy >= 99.4))
    for name, way in WAYS.items():
        seeds = options.seeds if name == "graph, bf16" else 1
        seconds, accuracy, words = training("best", seeds, *way, *shorter, data_dir=data_dir)
        target = "at most 15 s, 99.80 %" if name == "graph, bf16" else ""
        note(f"best, {name}", words, target, reached=not target or (seconds <= 15 and accuracy >= 99.8))
    _side_by_side(note, data_dir)
    save_results(options.output, "GPU", {"rows": rows}, machine)
    return int(not all(reached for *_, reached in rows))


def _speed(note: Any, data_dir: str, rounds: int) -> None:
    """`fit` next to the bare loops at batch 512, and what exactness costs."""
    torch.set_float32_matmul_precision("high")  # as `fit` does
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, way in {**WAYS, "eager, inexact": FASTEST, "graph, inexact": (*GRAPH, *FASTEST)}.items():
            rates.setdefault(name, []).append(fit_rate(*way, data_dir=data_dir))
        for name, captured in (("bare loop, eager", False), ("bare loop, captured", True)):
            rates.setdefault(name, []).append(bare_loop.train(data_dir, 400, captured=captured))
    for name, values in rates.items():
        ratio = _ratio(values, rates["bare loop, eager"])
        target = "÷ bare eager loop at least 0.8" if name == "graph" else ""
        figure = f"{statistics.median(values):,.0f} images/s, ÷ bare eager loop {ratio:.2f}"
        note(f"batch 512, {name}", figure, target, reached=not target or ratio >= 0.8)


def _ratio(values: Sequence[float], reference: Sequence[float]) -> float:
    return statistics.median(value / other for value, other in zip(values, reference, strict=True))


def _side_by_side(note: Any, data_dir: str) -> None:
    """Sixteen seeds of `fast` at once, next to one."""
    options = ["--config", "fast", "--data.data_dir", data_dir, "--figures", "false", *GRAPH]
    for seeds in (1, 16):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            done = run("fit", *options, "--seeds", str(seeds), "--seeds_at_once", str(seeds), folder=folder)
            seconds = time.perf_counter() - began
        reached = done.returncode == 0
        note(f"fast, {seeds} seeds at once", f"{seconds:.1f} s whole", "all finish", reached=reached)


if __name__ == "__main__":
    sys.exit(main())
