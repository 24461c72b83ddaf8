"""Several seeds as one group: `fit --seeds 5` trains them, `test` and `validate` score them all."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from mnist_lit.errors import InputError, StoppedBySignal, require
from mnist_lit.evaluation.statistics import spread
from mnist_lit.runs import folders
from mnist_lit.runs.new_folder import new_folder, write_first_file
from mnist_lit.runs.recipes import command_line
from mnist_lit.runs.results import best_validation, ensemble_accuracy, read_predictions
from mnist_lit.system.arguments import fit_option, has_option, pop_option
from mnist_lit.system.console import percent, print_fields, say
from mnist_lit.system.subprocesses import launched_externally, run_command, run_side_by_side

MAX_SEEDS = 1000  # seeds in one part of --seeds
NUMBER = r"\d{1,10}"  # `int` refuses thousands of digits
MAX_AT_ONCE = 16  # processes on one GPU, each of which needs a gigabyte or so of its memory
DEVICES = Path("/dev")  # where Linux lists the GPUs
CONFLICTS = {
    "ckpt_path": "several seeds start from scratch",
    "group": "--seeds creates its own group",
    "trainer.fast_dev_run": "a dry run leaves no scores to summarize",
}
OFF = ("", "false", "0")


def main(command: str, args: list[str]) -> int:
    """Run the command once per run of the group and print the spread; returns the first exit code that is not 0.
    Raises InputError if the group cannot be started or, for `test` and `validate`, is incomplete."""
    if launched_externally():
        raise InputError("a group starts its own processes; give each launched job one --seed_everything")
    return _fit(args) if command == "fit" else _evaluate(command, args)


def parse_seeds(given: str) -> list[int]:
    """The seeds for `--seeds`: a count, which starts at 0, or a list.

    >>> parse_seeds("3"), parse_seeds("7,11"), parse_seeds("4-6")
    ([0, 1, 2], [7, 11], [4, 5, 6])
    """
    parts = (f"0-{int(given) - 1}" if re.fullmatch(NUMBER, given) else given).split(",")
    found = [match for part in parts if (match := re.fullmatch(f"({NUMBER})(?:-({NUMBER}))?", part))]
    ranges = [range(int(match[1]), int(match[2] or match[1]) + 1) for match in found]
    if len(ranges) == len(parts) and all(part.stop <= 2**32 and 0 < len(part) <= MAX_SEEDS for part in ranges):
        seeds = [seed for part in ranges for seed in part]
        if len({*seeds}) == len(seeds):
            return seeds
    expected = f"a number of seeds up to {MAX_SEEDS}, such as 5, or a list, such as 0,3,7 or 10-14"
    raise InputError(f"--seeds: expected {expected}; got {given or 'nothing'}")


def _evaluate(command: str, args: list[str]) -> int:
    folder, args = pop_option(args, "--ckpt_path")
    members = folders.finished_members(Path(folder))
    before = _predictions_of(members)
    for run in members:
        if code := run_command(command, [*args, "--ckpt_path", str(folders.best_checkpoint(run))]):
            return code
    # A partial test writes no predictions, and a test on another dataset writes its own file.
    written = [path for path, changed in _predictions_of(members).items() if changed != before.get(path)]
    if command == "test" and len(written) == len(members):
        tests = [test for path in written if (test := read_predictions(path.parent, path.name))]
        fields = {"group": folder, "test/acc": str(spread([test.acc for test in tests]))}
        if len(tests) > 1:
            mean = f"the mean of the {len(tests)} runs' probabilities"
            fields["ensemble"] = f"{percent(ensemble_accuracy(tests), len(tests[0].labels))}  ({mean})"
        print_fields(fields)
    return 0


def _predictions_of(members: Sequence[Path]) -> dict[Path, int]:
    """The files of the runs' test predictions, and when each was last written."""
    return {path: path.stat().st_mtime_ns for run in members for path in folders.all_predictions(run)}


def _fit(args: list[str]) -> int:
    given, args = pop_option(args, "--seeds")
    together, args = pop_option(args, "--seeds_at_once")
    if any(arg in ("-h", "--help") or arg.startswith("--print_config") for arg in args):
        return run_command("fit", args)
    seeds = parse_seeds(given)
    at_once = _seeds_at_once(together, len(seeds), fit_option(args, "trainer.accelerator"))
    if has_option(args, "--seed_everything"):  # a recipe's own is replaced
        raise InputError("--seed_everything cannot be combined with --seeds, which sets it")
    for option, reason in CONFLICTS.items():
        if fit_option(args, option).lower() not in OFF:
            raise InputError(f"--{option} cannot be combined with --seeds: {reason}")
    root = folders.logs_folder(fit_option(args, "trainer.default_root_dir"))
    resume = fit_option(args, "resume")
    _, recipe = pop_option(args, "--resume")
    shared = command_line(["fit", *(arg for arg in recipe if arg != "--debug")])
    group = _find_group(root, shared) if resume else None
    if group is None:
        group, lock = new_folder(root)
        write_first_file(group / folders.GROUP_TXT, f"{shared}\n")
        lock.release()
    each = [[*args, "--seed_everything", str(seed), "--group", str(group)] for seed in seeds]
    done = 0
    try:
        for code in _one_by_one(seeds, each) if at_once == 1 else _side_by_side(seeds, each, at_once):
            if code:
                return code
            done += 1
    except StoppedBySignal as stopped:
        where = f"after {done} of {len(seeds)} seeds; repeat the command with --resume auto to continue"
        raise StoppedBySignal(stopped.signum, where) from None
    finally:
        if not folders.group_members(group):
            shutil.rmtree(group, ignore_errors=True)
    _print_scores(group, seeds)
    return 0


def _print_scores(group: Path, seeds: list[int]) -> None:
    """Print the spread of a trained group, and the seeds in it that other commands have trained."""
    members = folders.group_members(group)
    before = sorted({folders.run_number(run, "seed") for run in members} - {*seeds})
    scores = [best.acc for run in members if (best := best_validation(run))]
    logged = any(run.joinpath(folders.METRICS_CSV).exists() for run in members)
    early = any(map(folders.recorded_validation_size, members))
    without = "none: training ended before the first validation" if early else "none: no validation"
    unknown = without if logged else f"unknown: no {folders.METRICS_CSV}"
    test = f"mnist-lit test {shlex.quote(str(group))}"
    fields = {"group": str(group), "best val/acc": str(spread(scores)) if scores else unknown, "next": test}
    if before:
        fields["seeds"] = f"also {', '.join(map(str, before))}, trained by earlier commands"
    print_fields(fields)


def _one_by_one(seeds: list[int], each: list[list[str]]) -> Iterator[int]:
    """Train one seed after the other; yields their exit codes."""
    for number, (seed, args) in enumerate(zip(seeds, each, strict=True), 1):
        say(f"\nseed {seed}, {number} of {len(seeds)}", flush=True)
        yield run_command("fit", args)


def _side_by_side(seeds: list[int], each: list[list[str]], at_once: int) -> Iterator[int]:
    """Train several seeds at a time, printing each one's output when it ends; yields their exit codes."""
    say(f"{len(seeds)} seeds, {at_once} at a time", flush=True)
    for number, code, printed in run_side_by_side("fit", each, at_once):
        say(f"\nseed {seeds[number]}\n{printed.decode(errors='replace')}", end="", flush=True)
        yield code


def _seeds_at_once(given: str, seeds: int, accelerator: str) -> int:
    """How many seeds to train at a time: `--seeds_at_once`; by default one, or one per CPU core if there is one GPU.

    A GPU is idle most of the time while one process trains a network this small; a CPU is not.
    """
    if given:
        require("--seeds_at_once", given, "1 or more", bool(re.fullmatch(NUMBER, given)) and int(given) > 0)
        return min(int(given), seeds)
    return min(seeds, os.cpu_count() or 1, MAX_AT_ONCE) if accelerator != "cpu" and _visible_gpus() == 1 else 1


def _visible_gpus() -> int:
    """The NVIDIA GPUs that a fit would see, as Linux lists them: asking torch would take seconds."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if "+cpu" in metadata.version("torch") or (chosen and chosen.startswith("-")):  # -1 hides all
        return 0
    listed = len([*DEVICES.glob("nvidia[0-9]*")])
    if chosen is None:
        return listed
    named = len([*filter(None, chosen.split(","))])
    return min(named, listed) if sys.platform == "linux" else named


def _find_group(root: Path, shared: str) -> Path | None:
    """The newest group of the same command, whatever its seeds."""
    groups = [path.parent for path in root.glob(f"*/{folders.GROUP_TXT}")]
    if same := [group for group in groups if folders.recorded_command(group) == shared]:
        return max(same, key=folders.run_number)
    if groups:
        differences = {group: _differences(folders.recorded_command(group), shared) for group in groups}
        same_config = [group for group in groups if "--config " not in differences[group]]
        nearest = max(same_config, key=folders.run_number, default=None)
        hint = f"; {nearest.name} was started {differences[nearest]}" if nearest else ""
        say(f"resume: no group was started with exactly this command{hint}; starting a new one", file=sys.stderr)
    return None


def _differences(theirs: str, mine: str) -> str:
    """How the options of a command differ from those of this one.

    >>> _differences("mnist-lit fit --config fast --model.lr 0.1", "mnist-lit fit --config fast --model.lr 0.2")
    'with --model.lr 0.1, without --model.lr 0.2'
    """
    before, now = ([f"--{option}" for option in command.split(" --")[1:]] for command in (theirs, mine))
    found = [f"with {option}" for option in before if option not in now]
    found += [f"without {option}" for option in now if option not in before]
    return ", ".join(found) or "with the same options in another order"
