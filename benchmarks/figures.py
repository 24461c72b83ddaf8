"""What TensorBoard's figures cost a fit: pairs of fits with and without them, in CPU seconds on one thread.

    python benchmarks/figures.py

On a shared machine the wall-clock time of two identical fits differs by about 10 %, their CPU time by about 1 %.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measurement import benchmark_parser, report


def cpu_seconds(args: list[str]) -> float:
    """Run a fit in this process; returns its CPU seconds from before the first step to the end of training."""
    from mnist_lit.callbacks.tables import FitTable
    from mnist_lit.cli.main import main as mnist_lit

    times = []

    def record_time(hook_name: str) -> None:
        hook = getattr(FitTable, hook_name)

        def wrapped(*args: Any, **kwargs: Any) -> None:
            times.append(time.process_time())
            hook(*args, **kwargs)

        setattr(FitTable, hook_name, wrapped)

    record_time("on_train_start")
    record_time("on_train_end")
    output = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(output):
        code = mnist_lit(["fit", *args])
    assert code == 0, output.getvalue()
    start, end = times
    return end - start


def main() -> None:
    """Run the pairs, each fit in a process of its own."""
    parser = benchmark_parser(__doc__, data_dir="data", config="quickstart", epochs=3, rounds=5)
    parser.add_argument("--only", choices=("true", "false"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    data_dir = str(Path(options.data_dir).resolve())
    if options.only:
        fit = ["--config", options.config, "--data.data_dir", data_dir, "--trainer.max_epochs", str(options.epochs)]
        print(cpu_seconds([*fit, "--figures", options.only]))
        return
    pair = [("with figures", "true"), ("without", "false")]
    rounds: dict[str, list[float]] = {name: [] for name, _ in pair}
    same = ["--config", options.config, "--epochs", str(options.epochs), "--data_dir", data_dir]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(options.rounds):
        pair.reverse()  # so that neither always runs first
        for name, figures in pair:
            command = [sys.executable, __file__, *same, "--only", figures]
            run = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
            rounds[name].append(float(run.stdout))
    report(f"A fit of {options.config}", "CPU seconds on one thread", rounds, "without", options.output)


if __name__ == "__main__":
    main()
