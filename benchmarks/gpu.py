"""Everything about training on one NVIDIA GPU in one command: tests, exactness, speed, accuracy.

    python benchmarks/gpu.py --data_dir data
    python benchmarks/gpu.py --data_dir data --only fast,best --ways graph,graph-bf16 --rounds 0

It prints a table of figures and targets and fails if a target is missed. `--seeds 2 --epochs 2` tries it in minutes;
`--rounds 0` measures no times, `--seeds 0` no accuracies.
"""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

import bare_loop
from measurement import benchmark_parser, fit, machine_info, save_results
from mnist_lit.evaluation.statistics import spread
from mnist_lit.runs.folders import finished_members
from mnist_lit.runs.results import read_predictions

EAGER = ("--model.cuda_graph", "false")
BF16 = ("--trainer.precision", "bf16-mixed")
WAYS = {"eager": EAGER, "eager-bf16": (*EAGER, *BF16), "graph": (), "graph-bf16": BF16}
AT_ONCE = min(os.cpu_count() or 1, 16) // 2 or 1  # processes, where nothing is timed
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


def training(recipe: str, *args: str, data_dir: str, rounds: int) -> tuple[float, str]:
    """Median seconds of all steps of a recipe's fit, alone on the GPU, and that with what is around them in words."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--config", recipe, "--data.data_dir", data_dir, "--figures", "false", *args]
        fits = [fit(*options, folder=folder) for _ in range(rounds)]
        steps = statistics.median(
            steady_rate(made)[1] for made in sorted(Path(folder, "lightning_logs").glob("version_*"))
        )
    whole, started = (statistics.median(getattr(one, name) for one in fits) for name in ("seconds", "training"))
    return steps, f"{steps:.2f} s of steps, {started:.1f} s of training, {whole:.1f} s whole"


def accuracy(recipe: str, seeds: int, *args: str, data_dir: str) -> tuple[float, str]:
    """Mean percent right on the test images over seeds that train side by side, and that with its spread in words."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--config", recipe, "--data.data_dir", data_dir, "--figures", "false", *args]
        began = time.perf_counter()
        fitted = run("fit", *options, "--seeds", str(seeds), "--seeds_at_once", str(seeds), folder=folder)
        seconds = time.perf_counter() - began
        assert fitted.returncode == 0, fitted.stdout + fitted.stderr
        members = finished_members(Path(folder, "lightning_logs/version_0"))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            done = list(pool.map(lambda member: run("test", "--ckpt_path", str(member), folder=folder), members))
        assert all(test.returncode == 0 for test in done), [test.stderr for test in done]
        tests = [read_predictions(member) for member in members]
    scores = spread([test.acc for test in tests if test])
    assert scores.n == seeds
    return 100 * scores.mean, f"test {scores}, {seconds:.0f} s for all at once"


def main() -> int:
    """Check and measure everything; returns 1 if a target is missed."""
    parser = benchmark_parser(
        __doc__, data_dir="data", seeds=10, epochs=0, rounds=3, ways=",".join(WAYS), only=",".join(PARTS)
    )
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu.py: no NVIDIA GPU here")
        return 2
    machine = machine_info()
    options.data_dir = str(Path(options.data_dir).resolve())
    rows: list[tuple[str, str, str, bool]] = []  # what, figure, target, reached

    def note(what: str, figure: Any, target: str = "", *, reached: bool = True) -> None:
        rows.append((what, str(figure), target, reached))
        print(f"| {what} | {figure} | {target}{'' if reached else ' MISSED'} |", flush=True)

    print(f"{machine['gpu']}, torch {machine['torch']}, {machine['cpu']}, {machine['date']}\n")
    print("| What | Figure | Target |\n|---|---|---|")
    for part in options.only.split(","):
        PARTS[part](note, options)
    save_results(options.output, "GPU", {"rows": rows}, machine)
    return int(not all(reached for *_, reached in rows))


def _tests(note: Any, options: Any) -> None:
    """The tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-n4", "-m", "gpu", "tests/gpu"]
    environment = {**os.environ, "MNIST_LIT_TEST_GPU": "0"}
    code = subprocess.run(command, cwd=Path(__file__).parents[1], env=environment, check=False).returncode
    note("tests/gpu", "pass" if code == 0 else "FAIL", "pass", reached=code == 0)


def _resume(note: Any, options: Any) -> None:
    """Whether runs that were killed and resumed end with the same bits: real MNIST, 80 steps, two kills."""
    few = ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "40", "--data.data_dir", options.data_dir]

    def verify(recipe: str, way: str) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            command = ("--kills", "2", "--config", recipe, *few, *WAYS[way])
            return run("verify-resume", *command, folder=folder).returncode == 0

    kinds = [(recipe, way) for recipe in ("quickstart", "fast", "best") for way in options.ways.split(",")]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for (recipe, way), equal in zip(kinds, pool.map(verify, *zip(*kinds, strict=True)), strict=True):
            note(f"verify-resume, {recipe}, {way}", "equal" if equal else "DIFFERENT", "equal", reached=equal)


def _speed(note: Any, options: Any) -> None:
    """`fit` next to the bare loops at batch 512, and what exactness costs."""
    torch.set_float32_matmul_precision("high")  # as `fit` does
    rates: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, way in {**WAYS, "eager, inexact": (*EAGER, *FASTEST), "graph, inexact": FASTEST}.items():
            rates.setdefault(name, []).append(fit_rate(*way, data_dir=options.data_dir))
        for name, captured in (("bare loop, eager", False), ("bare loop, captured", True)):
            rates.setdefault(name, []).append(bare_loop.train(options.data_dir, 400, captured=captured))
    for name, values in rates.items():
        ratio = _ratio(values, rates["bare loop, eager"])
        target = "÷ bare eager loop at least 0.8" if name == "graph" else ""
        figure = f"{statistics.median(values):,.0f} images/s, ÷ bare eager loop {ratio:.2f}"
        note(f"batch 512, {name}", figure, target, reached=not target or ratio >= 0.8)


def _ratio(values: Sequence[float], reference: Sequence[float]) -> float:
    return statistics.median(value / other for value, other in zip(values, reference, strict=True))


def _recipe(recipe: str, most_seconds: float, least_percent: float, note: Any, options: Any) -> None:
    """A recipe's time in every way, and with the graph its accuracy over several seeds."""
    shorter = ("--trainer.max_epochs", str(options.epochs)) if options.epochs else ()
    for name in options.ways.split(","):
        way, graph = (*WAYS[name], *shorter), "graph" in name
        if options.rounds:
            rounds = options.rounds if graph else 1
            seconds, words = training(recipe, *way, data_dir=options.data_dir, rounds=rounds)
            target = f"at most {most_seconds} s of steps" if graph else ""
            note(f"{recipe}, {name}", words, target, reached=not target or seconds <= most_seconds)
        if options.seeds and graph:
            percent, words = accuracy(recipe, options.seeds, *way, data_dir=options.data_dir)
            target = "" if shorter else f"{least_percent} %"
            note(f"{recipe}, {name}", words, target, reached=not target or percent >= least_percent)


PARTS: dict[str, Callable[[Any, Any], None]] = {
    "tests": _tests,
    "resume": _resume,
    "speed": _speed,
    "fast": partial(_recipe, "fast", 0.7, 99.4),
    "best": partial(_recipe, "best", 15, 99.7),
}

if __name__ == "__main__":
    sys.exit(main())
