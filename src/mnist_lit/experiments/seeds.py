"""Several seeds: `fit --seeds 5` trains them one after another, a process each, as one group; `test` scores a group.

Starts the commands and adds up what they leave; trains and scores nothing itself.
"""

import shlex
import time
from contextlib import suppress
from pathlib import Path

from mnist_lit.errors import InputError, StoppedBySignal
from mnist_lit.evaluation.statistics import spread
from mnist_lit.runs.folders import (
    LOGS,
    all_runs,
    best_checkpoint,
    create_run,
    finished_members,
    group_members,
    run_number,
)
from mnist_lit.runs.recipes import recipe_name
from mnist_lit.runs.results import best_validation, ensemble_accuracy, read_predictions
from mnist_lit.system.atomic_file import write_atomic
from mnist_lit.system.subprocesses import launched_externally, logs_root, pop_option, run_command

__all__ = ["main", "parse_seeds"]

GROUP_COMMAND = "group.txt"  # what the group's runs share: their command, for whoever goes on with it
MAX_SEEDS = 1000  # seeds


def main(command: str, args: list[str]) -> int:
    """Run the command once for each run of the group; returns the first exit code that is not 0.

    `fit` takes `--seeds` and prints validation's spread; `test` and `validate` take the group's folder as
    `--ckpt_path`, and `test` prints its spread. Raises InputError where the group cannot be begun or is not whole.
    """
    if launched_externally():
        raise InputError("a group starts processes of its own; let each launched job take one --seed_everything")
    if command == "fit":
        return _fit(args)
    given, args = pop_option(args, "--ckpt_path")
    group, begun = Path(given), time.time()
    members = finished_members(group)
    for run in members:
        if code := run_command(command, [*args, "--ckpt_path", str(best_checkpoint(run))]):
            return code
    written = [run / "predictions.csv" for run in members]
    if command == "test" and all(path.exists() and path.stat().st_mtime >= begun - 1 for path in written):
        tests = [test for run in members if (test := read_predictions(run))]
        print(f"\n  {'group':<14}{group}")
        print(f"  {'test/acc':<14}{spread([test.acc for test in tests])}")
        if len(tests) > 1:
            average = ensemble_accuracy(tests)
            print(f"  {'ensemble':<14}{100 * average:.3f} %  (the mean of the {len(tests)} runs' probabilities)")
    return 0


def parse_seeds(given: str) -> list[int]:
    """The seeds that `--seeds` names: a number of them, from 0 on, or a list.

    >>> parse_seeds("3"), parse_seeds("7,11"), parse_seeds("4-6")
    ([0, 1, 2], [7, 11], [4, 5, 6])
    """
    seeds: list[int] = []
    for part in [f"0-{int(given) - 1}"] if given.isdecimal() else given.split(","):
        first, _, last = part.partition("-")
        last = last or first
        if not (
            first.isdecimal() and last.isdecimal() and 0 <= int(last) - int(first) < MAX_SEEDS and int(last) < 2**32
        ):
            seeds = []
            break
        seeds += range(int(first), int(last) + 1)
    if not seeds or len({*seeds}) < len(seeds):
        raise InputError(
            f"--seeds: expected how many, up to {MAX_SEEDS}, as 5, or which, as 0,3,7 or 10-14; got {given}"
        )
    return seeds


def _fit(args: list[str]) -> int:
    given, args = pop_option(args, "--seeds")
    if any(arg in ("-h", "--help") or arg.startswith("--print_config") for arg in args):
        return run_command("fit", args)
    seeds = parse_seeds(given)
    for option, why in (
        ("--seed_everything", "--seeds says which seeds there are"),
        ("--ckpt_path", "several seeds begin afresh"),
        ("--group", "--seeds makes a group of its own"),
        ("--trainer.fast_dev_run", "a dry run leaves nothing to add up"),
    ):
        if any(arg.partition("=")[0] == option for arg in args):
            raise InputError(f"{option} does not go with --seeds: {why}")
    root = Path(logs_root(args), LOGS)
    resume, alone = pop_option(args, "--resume")
    told = [recipe_name(arg) for arg in alone if arg != "--debug"]
    shared = shlex.join(["mnist-lit", "fit", *told])
    group = _find_group(root, shared) if resume else None
    if group is None:
        group = create_run(root)
        write_atomic(group / GROUP_COMMAND, f"{shared}\n".encode())
    try:
        for number, seed in enumerate(seeds, 1):
            print(f"\nseed {seed}, {number} of {len(seeds)}", flush=True)
            if code := run_command("fit", [*args, "--seed_everything", str(seed), "--group", str(group)]):
                return code
    except StoppedBySignal as stopped:
        where = f"in seed {seed}, {number} of {len(seeds)}; the same command with --resume auto goes on"
        raise StoppedBySignal(stopped.signum, where) from None
    finally:
        if not group_members(group):
            with suppress(OSError):
                group.joinpath(GROUP_COMMAND).unlink()
                group.rmdir()
    scores = [best[0] for run in group_members(group) if (best := best_validation(run))]
    print(f"\n  {'group':<14}{group}")
    print(f"  {'best val/acc':<14}{spread(scores) if scores else 'none: no validation'}")
    print(f"  {'next':<14}mnist-lit test --ckpt_path {shlex.quote(str(group))}")
    return 0


def _find_group(root: Path, shared: str) -> Path | None:
    """The newest group of the same command; its seeds may be others."""
    groups = {run.parent for run in all_runs(root) if run.parent != root}
    for group in sorted(groups, key=run_number, reverse=True):
        with suppress(OSError, UnicodeDecodeError):
            if group.joinpath(GROUP_COMMAND).read_text(encoding="utf-8").strip() == shared:
                return group
    return None
