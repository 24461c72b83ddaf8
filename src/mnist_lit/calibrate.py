"""`mnist-lit calibrate`: fit a checkpoint's temperature, and its detector of what is no digit, after training."""

import argparse
from pathlib import Path

from mnist_lit import runs
from mnist_lit.errors import InputError

__all__ = ["main"]

IMAGES = 20_000  # by which two runs' detectors are brought to one scale


def main(command: str, args: list[str]) -> None:
    """Calibrate and save. `fit` does it by itself where images were set aside."""
    parser = argparse.ArgumentParser(
        f"mnist-lit {command}",
        description="Calibrate a checkpoint's probabilities and its rejection of what is no digit. "
        "`fit` does it by itself where images were set aside for validation.",
        allow_abbrev=False,
    )
    parser.add_argument("--ckpt_path", type=Path, help="the checkpoint, or its run (default: the newest run's best)")
    other = "where the run set nothing aside: one of the same recipe that did"
    parser.add_argument("--like", type=Path, metavar="CHECKPOINT", help=other)
    parser.add_argument("--output", type=Path, help="write a slim checkpoint there, in the place of changing this one")
    parser.add_argument("--data_dir", help="the folder of the dataset's files (default: the run's)")
    options = parser.parse_args(args)
    source = _file(options.ckpt_path) if options.ckpt_path else runs.newest(Path(runs.LOGS))

    from mnist_lit import calibration, checkpoint, digits  # torch comes with them: not for --help
    from mnist_lit.datamodule import DigitsDataModule

    content = checkpoint.load(source)
    chosen = checkpoint.settings(content)["data"]
    data = DigitsDataModule(**{**chosen, "data_dir": options.data_dir or chosen.get("data_dir", "data")})
    data.prepare_data()
    data.setup()
    if data.fingerprint != content[checkpoint.KEY]["data"]:
        raise InputError(f"{source} was trained on other data than {data.data_dir} has")
    assert data.digits is not None
    like, val = None, data.val_indices
    if options.like:
        path = _file(options.like)
        like, _, threshold = calibration.load(path)
        if threshold == 1:
            raise InputError(f"{options.like} is not calibrated itself")
        theirs = checkpoint.settings(checkpoint.load(path))["data"]
        split = digits.stratified_split(data.digits.train_labels, theirs["val_size"], theirs["split_seed"])
        val = split[0][:IMAGES]
    elif not data.val_size:
        raise InputError(
            f"{source} was trained on all images: none is left to calibrate on; want --like CHECKPOINT, of a run of "
            "the same recipe with data.val_size"
        )
    target = options.output or source
    written = calibration.write(source, target, data.digits, data.train_indices, val, like=like)
    state = written[checkpoint.KEY]["calibration"]["state"]
    print(f"calibrated: {target}, temperature {float(state['temperature']):.3f}")


def _file(path: Path) -> Path:
    """A checkpoint, or a run's best."""
    found = runs.best(path) if path.is_dir() else path
    if not found or not found.is_file():
        raise InputError(f"no checkpoint at {path}")
    return found
