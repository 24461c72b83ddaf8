"""The names of run folders and of the files in them, and how to find them; lightning_logs/README.md describes each
file. The standard library only."""

import os
from contextlib import suppress
from pathlib import Path

from mnist_lit.errors import InputError
from mnist_lit.system.atomic_file import write_atomic
from mnist_lit.system.console import format_epochs
from mnist_lit.system.error_messages import did_you_mean
from mnist_lit.system.regular_file import read_regular_file

LOGS = "lightning_logs"
CONFIG_YAML, METRICS_CSV = "config.yaml", "metrics.csv"
PREDICTIONS_CSV, REPORT_HTML, ONNX_FILE = "predictions.csv", "report.html", "model.onnx"
GROUP_TXT, FINISHED_MARK, CHECKPOINTS = "group.txt", "finished", "checkpoints"
MAX_BYTES = 1 << 16  # of these text files that are read, from their start
MAX_COUNT = 1 << 53  # of images, steps or epochs: beyond it, floats skip whole numbers
BEST_CKPT, LAST_CKPT, PREVIOUS_CKPT = "best.ckpt", "last.ckpt", "previous.ckpt"


def logs_folder(default_root_dir: str | Path | None) -> Path:
    """The folder of the runs and groups of fits with this `trainer.default_root_dir`; "" or None is the default."""
    return Path(default_root_dir or "", LOGS)


def recorded_command(folder: Path) -> str:
    """The `mnist-lit` command that a run or a group began with; empty if it cannot be read."""
    path = folder / (GROUP_TXT if folder.joinpath(GROUP_TXT).exists() else CONFIG_YAML)
    with suppress(OSError):
        line = read_regular_file(path, MAX_BYTES).decode("utf-8", "ignore").partition("\n")[0].removeprefix("# ")
        return line.strip() if line.startswith("mnist-lit ") else ""
    return ""


def began_and_saved(run: Path) -> tuple[float | None, float | None]:
    """When a run began, and when its newest checkpoint was saved: modification times, in seconds since 1970."""
    config, last = run / CONFIG_YAML, run / CHECKPOINTS / LAST_CKPT
    begin, end = (path.stat().st_mtime if path.is_file() else None for path in (config, last))
    return begin, end


def mark_finished(run: Path, epochs: float, val_images: int | None) -> None:
    """Note that a run was trained to its end, for how many epochs, and how many images each validation had."""
    numbers = [format_epochs(epochs)] + ([] if val_images is None else [str(val_images)])
    write_atomic(run / FINISHED_MARK, "".join(f"{number}\n" for number in numbers).encode())


def is_finished(run: Path) -> bool:
    """Whether a run was trained to its end."""
    return run.joinpath(FINISHED_MARK).exists()


def finished_epochs(run: Path) -> float | None:
    """How many epochs a finished run was trained for; None if it is unfinished, or its epochs have no end."""
    return _finished_number(run, 0)


def recorded_validation_size(run: Path) -> int | None:
    """How many images each validation of a finished run had; None if it is unfinished, or does not say."""
    images = _finished_number(run, 1)
    return int(images) if images and images >= 1 else None


def _finished_number(run: Path, line: int) -> float | None:
    """A number that `mark_finished` wrote, lines counted from 0; None if there is none, or one that no run has."""
    with suppress(OSError, ValueError, IndexError):
        number = float(read_regular_file(run / FINISHED_MARK, MAX_BYTES).split()[line])
        return number if 0 < number < MAX_COUNT else None
    return None


def best_checkpoint(run: Path) -> Path | None:
    """A run's best checkpoint, its last one if it had no validation, or None."""
    paths = (run / CHECKPOINTS / name for name in (BEST_CKPT, LAST_CKPT, PREVIOUS_CKPT))
    return next((path for path in paths if path.is_file()), None)


def epoch_checkpoints(run: Path) -> list[Path]:
    """A run's `epoch_N.ckpt`, the newest first."""
    numbers = {path: run_number(path.with_suffix(""), "epoch") for path in run.glob(f"{CHECKPOINTS}/epoch_*.ckpt")}
    return sorted((path for path in numbers if numbers[path] >= 0), key=numbers.__getitem__, reverse=True)


def all_runs(root: Path) -> list[Path]:
    """The run folders under `root`, oldest first; a group's runs are listed by seed."""
    return [run for folder in _numbered(root, "version") for run in group_members(folder) or [folder]]


def group_members(group: Path) -> list[Path]:
    """A group's runs by seed; empty if the folder is not a group."""
    return _numbered(group, "seed")


def sweep_trials(sweep: Path) -> list[Path]:
    """A sweep's runs by trial; empty if the folder is not a sweep's."""
    return _numbered(sweep, "trial")


def _numbered(root: Path, kind: str) -> list[Path]:
    """The folders `KIND_N` in `root`, by N."""
    numbers = {run: number for run in root.glob(f"{kind}_*/") if (number := run_number(run, kind)) >= 0}
    return sorted(numbers, key=numbers.__getitem__)


def paths_named(given: str | Path) -> list[Path]:
    """The existing paths that a name may refer to: the path itself, or an entry of `lightning_logs`. Empty for one that
    is too long for the file system."""
    return [path for path in (Path(given), Path(LOGS, given)) if os.path.lexists(path)]


def find_run(given: str) -> Path:
    """The run or group at a path, or of that name in `lightning_logs`. Raises InputError if there is neither."""
    for path in paths_named(given):
        if path.is_dir() and (group_members(path) or best_checkpoint(path)):
            return path
    for path in paths_named(given):
        refuse_folder(path)
    hint = did_you_mean(given, run_names()) or "; `mnist-lit runs` lists the runs"
    raise InputError(f"no run with a checkpoint, and no group of runs, at {given or 'an empty name'}{hint}")


def refuse_folder(path: Path) -> None:
    """Raise InputError for a sweep and for a run without a checkpoint, which a name may stand for by mistake."""
    if trials := sweep_trials(path):
        raise InputError(f"{path} is a sweep; name one of its trials, such as {trials[0]}")
    if path.joinpath(CONFIG_YAML).exists():
        raise InputError(f"{path} has no checkpoint")


def run_names() -> list[str]:
    """The names of the groups, and of the runs that have a checkpoint, in `lightning_logs`."""
    runs = [run for run in all_runs(Path(LOGS)) if best_checkpoint(run)]
    return [*map(run_name, runs), *dict.fromkeys(run.parent.name for run in runs if run.parent.name != LOGS)]


def finished_members(group: Path) -> list[Path]:
    """A group's runs. Raises InputError if one of them is unfinished: the group's spread would not count it."""
    members = group_members(group)
    for run in members:
        if not is_finished(run) or not best_checkpoint(run):
            raise InputError(f"{run} is unfinished; repeat the group's `fit` command with --resume auto")
    return members


def newest_checkpoint(root: Path = Path(LOGS)) -> Path:
    """The best checkpoint of the newest run that has one. Raises InputError if there is none."""
    path = next((path for path in map(best_checkpoint, reversed(all_runs(root))) if path), None)
    if path is None:
        others = (run for folder in sorted(root.glob("*")) for run in sweep_trials(folder) or [folder])
        if other := next(filter(best_checkpoint, others), None):
            raise InputError(f"no version_N in {root} has a checkpoint; name a run, such as {other}")
        raise InputError(f"nothing was trained in {root}; run `mnist-lit fit` first, or name a model")
    return path


def run_name(run: Path) -> str:
    """A run's unique name: `version_7`, `version_7/seed_0` in a group, `sweep_x/trial_3` in a sweep."""
    is_nested = max(run_number(run, "seed"), run_number(run, "trial")) >= 0
    return f"{run.parent.name}/{run.name}" if is_nested else run.name


def run_of_checkpoint(checkpoint: Path) -> Path:
    """The folder for a checkpoint's predictions and report: its run's, or its own if it lies outside a run."""
    folder = checkpoint.parent if checkpoint.parent.name else checkpoint.resolve().parent
    return folder.parent if folder.name == CHECKPOINTS else folder


def predictions_name(checkpoint: Path | None, other_dataset: str | None) -> str:
    """The file of a test's predictions. `predictions.csv` is that of a run's best checkpoint on the dataset it was
    trained on, by which runs are compared; others are named `predictions_epoch_3.csv`, `predictions_last_kmnist.csv`
    and so on."""
    return _file_name(PREDICTIONS_CSV, _other_than_best(checkpoint), other_dataset)


def report_name(checkpoint: Path | None) -> str:
    """The file of a report. `report.html` is that of a run's best checkpoint, others are named `report_epoch_3.html`
    and so on."""
    return _file_name(REPORT_HTML, _other_than_best(checkpoint))


def export_name(checkpoint: Path) -> str:
    """The file of an exported checkpoint. `model.onnx` is that of a run's best one, others are named `model_last.onnx`
    and so on."""
    return _file_name(ONNX_FILE, _other_than_best(checkpoint))


def _other_than_best(checkpoint: Path | None) -> str | None:
    """The name of a checkpoint; None for a run's best one."""
    best = best_checkpoint(run_of_checkpoint(checkpoint)) if checkpoint else None
    return checkpoint.stem if checkpoint and not (best and best.resolve() == checkpoint.resolve()) else None


def _file_name(usual: str, *parts: str | None) -> str:
    stem, suffix = usual.split(".")
    return f"{'_'.join(filter(None, (stem, *parts)))}.{suffix}"


def all_predictions(run: Path) -> list[Path]:
    """The predictions of all tests of a run's checkpoints."""
    return sorted((*run.glob(PREDICTIONS_CSV), *run.glob(_file_name(PREDICTIONS_CSV, "*"))))


def remove_predictions(checkpoint: Path) -> None:
    """Remove the predictions of a checkpoint that is about to be replaced."""
    run = run_of_checkpoint(checkpoint)
    others = {path.stem for path in (*run.glob("*.ckpt"), *run.glob(f"{CHECKPOINTS}/*.ckpt"))}
    is_best = checkpoint.name == BEST_CKPT or not checkpoint.with_name(BEST_CKPT).exists()
    for path in all_predictions(run):
        # Those of the best checkpoint on other datasets are the ones that name no checkpoint.
        if _names(path, checkpoint.stem) or (is_best and not any(_names(path, other) for other in others)):
            path.unlink(missing_ok=True)


def _names(predictions: Path, checkpoint: str) -> bool:
    """Whether a file's name, see `predictions_name`, says that the predictions are those of a checkpoint."""
    return f"{predictions.stem}_".startswith(f"predictions_{checkpoint}_")


def run_number(run: Path, kind: str = "version") -> int:
    """The N of `version_N`, or of another kind; -1 for any other name."""
    name, _, digits = run.name.partition("_")
    return int(digits) if name == kind and digits.isdecimal() else -1
