"""Several seeds: `fit --seeds 5` trains them one after another, a process each, as one group; `test` scores a group.

Starts the commands and adds up what they leave; trains and scores nothing itself.
"""

import shlex
import time
from contextlib import suppress
from pathlib import Path

from mnist_lit import children, recipes, records, runs
from mnist_lit.children import logs_root, take
from mnist_lit.errors import InputError, Stopped
from mnist_lit.files import write_whole
from mnist_lit.stats import spread

__all__ = ["main", "seeds_of"]

COMMAND = "group.txt"  # what the group's runs share: their command, for whoever goes on with it
MOST = 1000  # seeds


def main(command: str, args: list[str]) -> int:
    """Run the command once for each run of the group; returns the first exit code that is not 0.

    `fit` takes `--seeds` and prints validation's spread; `test` and `validate` take the group's folder as
    `--ckpt_path`, and `test` prints its spread. Raises InputError where the group cannot be begun or is not whole.
    """
    if children.launched():
        raise InputError("a group starts processes of its own; let each launched job take one --seed_everything")
    if command == "fit":
        return _fit(args)
    given, args = take(args, "--ckpt_path")
    group, begun = Path(given), time.time()
    members = runs.whole(group)
    for run in members:
        if code := children.run(command, [*args, "--ckpt_path", str(runs.best(run))]):
            return code
    written = [run / "predictions.csv" for run in members]
    if command == "test" and all(path.exists() and path.stat().st_mtime >= begun - 1 for path in written):
        tests = [test for run in members if (test := records.scored(run))]
        print(f"\n  {'group':<14}{group}")
        print(f"  {'test/acc':<14}{spread([test.acc for test in tests])}")
        if len(tests) > 1:
            average = records.ensemble(tests)
            print(f"  {'ensemble':<14}{100 * average:.3f} %  (the mean of the {len(tests)} runs' probabilities)")
    return 0


def seeds_of(given: str) -> list[int]:
    """The seeds that `--seeds` names: a number of them, from 0 on, or a list.

    >>> seeds_of("3"), seeds_of("7,11"), seeds_of("4-6")
    ([0, 1, 2], [7, 11], [4, 5, 6])
    """
    seeds: list[int] = []
    for part in [f"0-{int(given) - 1}"] if given.isdecimal() else given.split(","):
        first, _, last = part.partition("-")
        last = last or first
        if not (first.isdecimal() and last.isdecimal() and 0 <= int(last) - int(first) < MOST and int(last) < 2**32):
            seeds = []
            break
        seeds += range(int(first), int(last) + 1)
    if not seeds or len({*seeds}) < len(seeds):
        raise InputError(f"--seeds: want how many, up to {MOST}, as 5, or which, as 0,3,7 or 10-14; got {given}")
    return seeds


def _fit(args: list[str]) -> int:
    given, args = take(args, "--seeds")
    if any(arg in ("-h", "--help") or arg.startswith("--print_config") for arg in args):
        return children.run("fit", args)
    seeds = seeds_of(given)
    for option, why in (
        ("--seed_everything", "--seeds says which seeds there are"),
        ("--ckpt_path", "several seeds begin afresh"),
        ("--group", "--seeds makes a group of its own"),
        ("--trainer.fast_dev_run", "a dry run leaves nothing to add up"),
    ):
        if any(arg.partition("=")[0] == option for arg in args):
            raise InputError(f"{option} does not go with --seeds: {why}")
    root = Path(logs_root(args), runs.LOGS)
    resume, alone = take(args, "--resume")
    told = [recipes.name(arg) for arg in alone if arg != "--debug"]
    shared = shlex.join(["mnist-lit", "fit", *told])
    group = _begun(root, shared) if resume else None
    if group is None:
        group = runs.fresh(root)
        write_whole(group / COMMAND, f"{shared}\n".encode())
    try:
        for number, seed in enumerate(seeds, 1):
            print(f"\nseed {seed}, {number} of {len(seeds)}", flush=True)
            if code := children.run("fit", [*args, "--seed_everything", str(seed), "--group", str(group)]):
                return code
    except Stopped as stopped:
        where = f"in seed {seed}, {number} of {len(seeds)}; the same command with --resume auto goes on"
        raise Stopped(stopped.signum, where) from None
    finally:
        if not runs.members(group):
            with suppress(OSError):
                group.joinpath(COMMAND).unlink()
                group.rmdir()
    scores = [best[0] for run in runs.members(group) if (best := records.best_val(run))]
    print(f"\n  {'group':<14}{group}")
    print(f"  {'best val/acc':<14}{spread(scores) if scores else 'none: no validation'}")
    print(f"  {'next':<14}mnist-lit test --ckpt_path {shlex.quote(str(group))}")
    return 0


def _begun(root: Path, shared: str) -> Path | None:
    """The newest group of the same command; its seeds may be others."""
    groups = {run.parent for run in runs.all_of(root) if run.parent != root}
    for group in sorted(groups, key=runs.number, reverse=True):
        with suppress(OSError, UnicodeDecodeError):
            if group.joinpath(COMMAND).read_text(encoding="utf-8").strip() == shared:
                return group
    return None
