"""What TensorBoard's figures cost a fit: pairs with and without them, in CPU seconds on one thread.

Seconds on the clock differ by a tenth between two like fits on a shared machine; these differ by a hundredth.

python benchmarks/figures.py
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

from contest import report


def cpu_seconds(args: list[str]) -> float:
    """The CPU time of a fit from its first step to its end, run in this process."""
    from mnist_lit.callbacks.tables import FitTable
    from mnist_lit.cli.main import main as mnist_lit

    times = []

    def noted(name: str) -> None:
        hook = getattr(FitTable, name)

        def wrapped(*args: Any, **kwargs: Any) -> None:
            times.append(time.process_time())
            hook(*args, **kwargs)

        setattr(FitTable, name, wrapped)

    noted("on_train_start")
    noted("on_train_end")
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(said):
        code = mnist_lit(["fit", *args])
    assert code == 0, said.getvalue()
    start, end = times
    return end - start


def main() -> None:
    """Run the pairs, each fit in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="quickstart", help="recipe")
    parser.add_argument("--epochs", default="3", help="of each fit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    args = ["--config", options.config, "--epochs", options.epochs]
    if options.only:
        fit = ["--config", options.config, "--trainer.max_epochs", options.epochs, "--figures", options.only]
        print(cpu_seconds(fit))
        return
    pair = [("with figures", "true"), ("without", "false")]
    rounds: dict[str, list[float]] = {name: [] for name, _ in pair}
    for _ in range(options.rounds):
        pair.reverse()  # who goes first must not matter
        for contestant, figures in pair:
            alone = [sys.executable, __file__, *args, "--only", figures]
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            rounds[contestant].append(float(subprocess.run(alone, env=env, stdout=-1, text=True, check=True).stdout))
    report(f"A fit of {options.config}", "CPU seconds on one thread", rounds, "without", options.output)


if __name__ == "__main__":
    main()
