"""What TensorBoard's figures cost a fit: pairs with and without them, and the time inside their own hooks.

A pair's difference is smaller than what two like fits differ by on a shared machine; the hooks' own time is not.

python benchmarks/figures.py
"""

import argparse
import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contest import RATE, fit, report


def inside(args: list[str]) -> float:
    """The share of a fit's time, from 0 to 1, that passes in the callbacks `Figures` and `HParams`."""
    from mnist_lit.callbacks import Figures, HParams
    from mnist_lit.cli import main as mnist_lit

    spent = 0.0

    def timed(owner: type, name: str) -> None:
        hook = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> None:
            nonlocal spent
            start = time.perf_counter()
            hook(*args, **kwargs)
            spent += time.perf_counter() - start

        setattr(owner, name, wrapped)

    for owner in (Figures, HParams):
        for name in [name for name in vars(owner) if name.startswith("on_")]:
            timed(owner, name)
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(said):
        code = mnist_lit(["fit", *args])
    told = RATE.search(said.getvalue())
    assert code == 0, said.getvalue()
    assert told, said.getvalue()
    return spent / float(told[1])


def main() -> None:
    """Run the pairs, then the fits that are looked into."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="quickstart", help="recipe")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("--only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("options", nargs="*", help="of `mnist-lit fit`, after --")
    options = parser.parse_args()
    args = ["--config", options.config, *options.options]
    if options.only:
        print(inside(args))
        return
    pair = [("with figures", "true"), ("without", "false")]
    rounds: dict[str, list[float]] = {name: [] for name, _ in pair}
    shares = []
    for _ in range(options.rounds):
        pair.reverse()  # who goes first must not matter
        for contestant, figures in pair:
            rounds[contestant].append(fit(*args, "--figures", figures)[0])
        alone = [sys.executable, __file__, "--only", "--config", options.config, "--", *options.options]
        shares.append(float(subprocess.run(alone, capture_output=True, text=True, check=True).stdout))
    report(f"A fit of {options.config}", "seconds", rounds, "without", options.output, {"share inside": shares})
    print(f"\nInside the hooks: {statistics.median(shares):.2%} of the fit, {min(shares):.2%} – {max(shares):.2%}")


if __name__ == "__main__":
    main()
