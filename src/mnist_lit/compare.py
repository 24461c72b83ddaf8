"""`mnist-lit compare RUN RUN`: whether two runs, or two groups of runs, differ on the test images."""

import argparse
from pathlib import Path

from mnist_lit import records, runs
from mnist_lit.errors import InputError
from mnist_lit.group import said
from mnist_lit.records import Scored
from mnist_lit.stats import Difference, mcnemar, welch

__all__ = ["ALPHA", "main"]

ALPHA = 0.05  # the chance of a difference where there is none, that is accepted


def main(command: str, args: list[str]) -> int:
    """Print the comparison; returns 0 whatever it says. Raises InputError where two cannot be compared."""
    parser = argparse.ArgumentParser(
        f"mnist-lit {command}",
        description="Whether two runs, or two groups of runs, differ on the same test images. Two runs: the exact "
        "McNemar test over images. Two groups: Welch's t-test over seeds. Test them first, with `mnist-lit test`.",
    )
    parser.add_argument("first", metavar="RUN", help="a run or a group: its folder, or its name, as version_3")
    parser.add_argument("second", metavar="RUN", help="what to compare it with")
    options = parser.parse_args(args)
    folders = runs.find(options.first), runs.find(options.second)
    first, second = (_tests(folder) for folder in folders)
    if {(*test.labels, *test.indices) for test in first} != {(*test.labels, *test.indices) for test in second}:
        raise InputError("the two were not tested on the same images")
    for name, folder, tests in zip("AB", folders, (first, second), strict=True):
        n = f"{tests[0].acc:.3%} of {len(tests[0].labels):,}" if len(tests) == 1 else said([t.acc for t in tests])
        print(f"  {name}  {folder}  {n}")
    if len(first) == len(second) == 1:
        only_first, only_second = _discordant(first[0], second[0])
        print(f"\n  {only_first} images only A has right, {only_second} only B (exact McNemar test)")
        _tell(mcnemar(only_first, only_second, len(first[0].labels)))
    elif min(len(first), len(second)) > 1:
        print("\n  over seeds, on these test images (Welch's t-test)")
        _tell(welch([test.acc for test in first], [test.acc for test in second]))
    else:
        raise InputError("one run says nothing of its spread: compare two runs, or two groups of two runs or more")
    return 0


def _tell(found: Difference) -> None:
    value, low, high = (f"{100 * share:+.3f}" for share in found[:3])
    print(f"  B - A: {value} points  (95 % interval {low} … {high}), p = {found.p:.2g}")
    better = "B" if found.value > 0 else "A"
    print(f"  {better} is better" if found.p < ALPHA else "  not distinguishable")


def _tests(folder: Path) -> list[Scored]:
    members = runs.members(folder) or [folder]
    tests = [test for run in members if (test := records.scored(run))]
    if len(tests) < len(members):
        raise InputError(f"{folder} was not tested whole; run `mnist-lit test --ckpt_path {folder}` first")
    return tests


def _discordant(first: Scored, second: Scored) -> tuple[int, int]:
    """How many images only the first has right, and only the second."""
    rows = zip(first.labels, first.predicted, second.predicted, strict=True)
    right = [(label == mine, label == theirs) for label, mine, theirs in rows]
    return right.count((True, False)), right.count((False, True))
