"""`mnist-lit compare RUN RUN`: test whether two runs, or two groups of runs, differ on the test images."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.errors import InputError
from mnist_lit.evaluation.statistics import Difference, mcnemar, spread, welch
from mnist_lit.runs.folders import find_run, finished_members
from mnist_lit.runs.results import read_predictions
from mnist_lit.system.console import percent_digits, say

SIGNIFICANT = 0.05  # p-value below which a difference counts as significant


def main(command: str, args: list[str]) -> None:
    """Print the comparison. Raises InputError if the two cannot be compared."""
    about = """Test whether two runs, or two groups of runs, differ on the same test images. Two runs: the exact McNemar
    test over images. Two groups: Welch's t-test over seeds. Score both with `mnist-lit test` first."""
    parser = CommandParser(command, about)
    parser.add_argument("first", metavar="RUN", help="a run or a group: its folder, or its name, such as version_3")
    parser.add_argument("second", metavar="RUN", help="the run or group to compare it with")
    options = parser.parse_args(args)
    folders = find_run(options.first), find_run(options.second)
    if folders[0].resolve() == folders[1].resolve():
        raise InputError(f"expected two runs or two groups, got {folders[0]} twice")
    members = [finished_members(folder) or [folder] for folder in folders]
    if (len(members[0]) == 1) != (len(members[1]) == 1):
        raise InputError("a single run has no spread over seeds: compare two runs, or two groups of two or more runs")
    found = [[test for run in runs if (test := read_predictions(run))] for runs in members]
    untested = [folder for folder, runs, tests in zip(folders, members, found, strict=True) if len(tests) < len(runs)]
    if untested:
        names = " and ".join(map(str, untested))
        raise InputError(f"expected a complete test of {names}; run {_test_commands(untested)} first")
    first, second = found
    if {test.images for test in first} != {test.images for test in second}:
        once_more = f"if they were trained on the same dataset, run {_test_commands(folders)} again"
        raise InputError(f"{folders[0]} and {folders[1]} were not tested on the same images; {once_more}")
    for name, folder, tests in zip("AB", folders, (first, second), strict=True):
        say(f"  {name}  {folder}  {spread([test.acc for test in tests])}")
    if len(first) == 1:
        images = zip(first[0].labels, first[0].predicted, second[0].predicted, strict=True)
        right = Counter((label == mine, label == theirs) for label, mine, theirs in images)
        only_first, only_second = right[True, False], right[False, True]
        say(f"\n  images that only A classified correctly: {only_first}; only B: {only_second} (exact McNemar test)")
        difference = mcnemar(only_first, only_second, len(first[0].labels))
    else:
        say("\n  over seeds, on these test images (Welch's t-test)")
        difference = welch([test.acc for test in first], [test.acc for test in second])
    digits = percent_digits(len(first[0].labels)) + 1
    value, low, high = (f"{100 * fraction:+.{digits}f}" for fraction in difference[:3])
    interval = "" if math.isnan(difference.low) else f"  (95 % interval {low} … {high}), p = {difference.p:.3g}"
    say(f"  B - A: {value} points{interval}")
    say(f"\n{_conclusion(difference)}")


def _conclusion(difference: Difference) -> str:
    """The result in one sentence."""
    if math.isnan(difference.low):
        if not difference.value:
            return "Neither group varies over its seeds, nor do they differ."
        return "Neither group varies over its seeds, so there is no variation to test their difference against."
    if difference.p >= SIGNIFICANT:
        often = f"{100 * difference.p:.0f} % of comparisons"
        return f"No significant difference: two equally good networks would differ at least this much in {often}."
    better, worse = "BA" if difference.value > 0 else "AB"
    return f"{better} is better than {worse}: two equally good networks would rarely differ this much."


def _test_commands(folders: Sequence[Path]) -> str:
    return " and ".join(f"`mnist-lit test {folder}`" for folder in folders)
