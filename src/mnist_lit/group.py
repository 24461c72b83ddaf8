"""Several seeds: `fit --seeds 5` trains them one after another, a process each, as one group; `test` scores a group.

Starts the commands and adds up what they leave; trains and scores nothing itself.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mnist_lit import records, runs
from mnist_lit.errors import InputError, Stopped
from mnist_lit.files import write_whole
from mnist_lit.records import Scored
from mnist_lit.stats import spread

__all__ = ["ensemble", "main", "said", "seeds_of"]

COMMAND = "group.txt"  # the command that began a group, for whoever goes on with it


def main(command: str, args: list[str]) -> int:
    """Run the command once for each run of the group, then print the spread; returns the first exit code that is not 0.

    `fit` takes `--seeds`; `test` and `validate` take the group's folder as `--ckpt_path`.
    """
    if command == "fit":
        return _fit(args)
    given, args = _take(args, "--ckpt_path")
    group = Path(given)
    members = [run for run in runs.members(group) if runs.best(run)]
    if not members:
        raise InputError(f"no run of {group} has a checkpoint")
    for run in members:
        if code := _run(command, [*args, "--ckpt_path", str(runs.best(run))]):
            return code
    if command == "test":
        _tell_test(group, members)
    return 0


def seeds_of(given: str) -> list[int]:
    """The seeds that `--seeds` names: a number of them, from 0 on, or a list.

    >>> seeds_of("3"), seeds_of("7,11"), seeds_of("4-6")
    ([0, 1, 2], [7, 11], [4, 5, 6])
    """
    try:
        if given.isdecimal():
            seeds = list(range(int(given)))
        else:
            ranges = [part.split("-") for part in given.split(",")]
            seeds = [seed for part in ranges for seed in range(int(part[0]), int(part[-1]) + 1)]
            seeds *= all(len(part) <= 2 for part in ranges)
    except ValueError:
        seeds = []
    if not seeds or len({*seeds}) < len(seeds) or max(seeds) >= 2**32:
        raise InputError(f"--seeds: want how many, as 5, or which, as 0,3,7 or 10-14; got {given}")
    return seeds


def ensemble(tests: Sequence[Scored]) -> float:
    """The accuracy of the mean of the runs' probabilities."""
    labels = tests[0].labels
    right = 0
    for image, label in enumerate(labels):
        total = [sum(column) for column in zip(*(test.probs[image] for test in tests), strict=True)]
        right += total.index(max(total)) == label
    return right / len(labels)


def said(values: Sequence[float]) -> str:
    """Shares in [0, 1] as one line: mean ± sd, n, and the mean's 95 % interval.

    >>> said([0.99, 0.992])
    '99.100 ± 0.141 %  (n = 2; 95 % interval of the mean 97.829 – 100.371 %)'
    """
    n, mean, sd, low, high = spread([100 * value for value in values])
    if n == 1:
        return f"{mean:.3f} %  (n = 1)"
    return f"{mean:.3f} ± {sd:.3f} %  (n = {n}; 95 % interval of the mean {low:.3f} – {high:.3f} %)"


def _fit(args: list[str]) -> int:
    if _has(args, "-h") or _has(args, "--help"):
        return _run("fit", args)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError("--seeds starts processes of its own; under torchrun give one --seed_everything at a time")
    begun = shlex.join(["mnist-lit", "fit", *args])
    resumes = _has(args, "--resume")
    given, args = _take(args, "--seeds")
    seeds = seeds_of(given)
    for option, why in (
        ("--seed_everything", "--seeds says which seeds there are"),
        ("--ckpt_path", "several seeds begin afresh"),
        ("--group", "--seeds makes a group of its own"),
    ):
        if _has(args, option):
            raise InputError(f"{option} does not go with --seeds: {why}")
    root = Path(_take(args, "--trainer.default_root_dir")[0], runs.LOGS)
    wanted = begun.replace(" --resume auto", "").replace(" --resume=auto", "")
    group = next((group for group in _groups(root) if _begun(group) == wanted), None) if resumes else None
    if group is None:
        group = runs.fresh(root)
        write_whole(group / COMMAND, f"{wanted}\n".encode())
    for number, seed in enumerate(seeds, 1):
        print(f"\nseed {seed}, {number} of {len(seeds)}", flush=True)
        if code := _run("fit", [*args, "--seed_everything", str(seed), "--group", str(group)]):
            if not runs.members(group):
                group.joinpath(COMMAND).unlink()
                group.rmdir()
            return code
    scores = [best[0] for run in runs.members(group) if (best := records.best_val(run))]
    print(f"\n  {'group':<14}{group}")
    print(f"  {'best val/acc':<14}{said(scores) if scores else 'none: no validation'}")
    print(f"  {'next':<14}mnist-lit test --ckpt_path {shlex.quote(str(group))}")
    return 0


def _tell_test(group: Path, members: Sequence[Path]) -> None:
    tests = [test for run in members if (test := records.scored(run))]
    if len(tests) < len(members):  # the trainer's limits allowed a part of the images
        return
    print(f"\n  {'group':<14}{group}")
    print(f"  {'test/acc':<14}{said([test.acc for test in tests])}")
    if len(tests) > 1:
        print(f"  {'ensemble':<14}{ensemble(tests):.3%}  (the mean of the {len(tests)} runs' probabilities)")


def _run(command: str, args: Sequence[str]) -> int:
    process = subprocess.Popen([sys.executable, "-m", "mnist_lit", command, *args])
    try:
        code = process.wait()
    except Stopped as stopped:
        process.send_signal(stopped.signum)  # it saves; after a Ctrl-C it knows already, and minds no second
        process.wait()
        raise
    return code if code >= 0 else 128 - code


def _groups(root: Path) -> list[Path]:
    return [path.parent for path in sorted(root.glob(f"version_*/{COMMAND}"), key=lambda path: -path.stat().st_mtime)]


def _begun(group: Path) -> str:
    return group.joinpath(COMMAND).read_text(encoding="utf-8").strip()


def _has(args: Sequence[str], option: str) -> bool:
    return any(arg == option or arg.startswith(f"{option}=") for arg in args)


def _take(args: Sequence[str], option: str) -> tuple[str, list[str]]:
    """The last value of an option, or "", and the arguments without it."""
    value, rest, given = "", [], iter(args)
    for arg in given:
        name, equals, after = arg.partition("=")
        if name == option:
            value = after if equals else next(given, "")
        else:
            rest.append(arg)
    return value, rest
