"""`mnist-lit compare RUN RUN`: whether two runs, or two groups of runs, differ on the test images."""

from pathlib import Path

from mnist_lit.errors import InputError
from mnist_lit.evaluation.statistics import Difference, mcnemar, spread, welch
from mnist_lit.runs.folders import find_run, finished_members
from mnist_lit.runs.results import Predictions, read_predictions
from mnist_lit.system.arguments import CommandParser

__all__ = ["ALPHA", "main"]

ALPHA = 0.05  # the chance of a difference where there is none, that is accepted


def main(command: str, args: list[str]) -> int:
    """Print the comparison; returns 0 whatever it says. Raises InputError where two cannot be compared."""
    parser = CommandParser(
        command,
        "Whether two runs, or two groups of runs, differ on the same test images. Two runs: the exact "
        "McNemar test over images. Two groups: Welch's t-test over seeds. Test them first, with `mnist-lit test`.",
    )
    parser.add_argument("first", metavar="RUN", help="a run or a group: its folder, or its name, as version_3")
    parser.add_argument("second", metavar="RUN", help="what to compare it with")
    options = parser.parse_args(args)
    folders = find_run(options.first), find_run(options.second)
    if folders[0].resolve() == folders[1].resolve():
        raise InputError(f"both are {folders[0]}")
    first, second = (_tests(folder) for folder in folders)
    if {(*test.labels, *test.indices) for test in first} != {(*test.labels, *test.indices) for test in second}:
        raise InputError("the two were not tested on the same images")
    if (len(first) == 1) != (len(second) == 1):
        raise InputError("one run says nothing of its spread: compare two runs, or two groups of two runs or more")
    for name, folder, tests in zip("AB", folders, (first, second), strict=True):
        print(f"  {name}  {folder}  {spread([test.acc for test in tests])}")
    if len(first) == 1:
        only_first, only_second = _discordant(first[0], second[0])
        print(f"\n  {only_first} images only A has right, {only_second} only B (exact McNemar test)")
        _tell(mcnemar(only_first, only_second, len(first[0].labels)))
    else:
        print("\n  over seeds, on these test images (Welch's t-test)")
        _tell(welch([test.acc for test in first], [test.acc for test in second]))
    return 0


def _tell(found: Difference) -> None:
    value, low, high = (f"{100 * share:+.3f}" for share in found[:3])
    print(f"  B - A: {value} points  (95 % interval {low} … {high}), p = {found.p:.2g}")
    better = "B" if found.value > 0 else "A"
    print(f"  {better} is better" if found.p < ALPHA else "  not distinguishable")


def _tests(folder: Path) -> list[Predictions]:
    """What a run, or each run of a group, said of the test images when it was last tested."""
    found = finished_members(folder) or [folder]
    tests = [test for run in found if (test := read_predictions(run))]
    if len(tests) < len(found):
        raise InputError(f"{folder} was not tested whole; run `mnist-lit test --ckpt_path {folder}` first")
    return tests


def _discordant(first: Predictions, second: Predictions) -> tuple[int, int]:
    """How many images only the first has right, and only the second."""
    rows = zip(first.labels, first.predicted, second.predicted, strict=True)
    right = [(label == mine, label == theirs) for label, mine, theirs in rows]
    return right.count((True, False)), right.count((False, True))
