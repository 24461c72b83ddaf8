"""`mnist-lit calibrate`: fit a checkpoint's temperature, and its detector of what is no digit, after training."""

from pathlib import Path

from mnist_lit.errors import InputError
from mnist_lit.runs.locate import LATEST, is_pretrained, locate_model
from mnist_lit.system.arguments import CommandParser

__all__ = ["main"]

IMAGES = 20_000  # by which two runs' detectors are brought to one scale


def main(command: str, args: list[str]) -> None:
    """Calibrate and save. `fit` does it by itself where images were set aside."""
    parser = CommandParser(
        command,
        "Calibrate a checkpoint's probabilities and its rejection of what is no digit. "
        "`fit` does it by itself where images were set aside for validation.",
    )
    parser.add_argument(
        "--model", "--ckpt_path", dest="model", help="the checkpoint, or its run (default: the newest run's best)"
    )
    other = "where the run set nothing aside: one of the same recipe that did"
    parser.add_argument("--like", metavar="CHECKPOINT", help=other)
    parser.add_argument("--output", type=Path, help="write a slim checkpoint there, in the place of changing this one")
    parser.add_argument("--data_dir", help="the folder of the dataset's files (default: the run's)")
    options = parser.parse_args(args)
    source = locate_model(options.model or LATEST)
    target = options.output or source
    if is_pretrained(target):
        raise InputError("the model that ships stays as it is; expected --output")

    from mnist_lit.datamodule import MNISTDataModule
    from mnist_lit.evaluation.calibration import calibrate_checkpoint, load_calibrated
    from mnist_lit.runs.checkpoint import (  # torch comes with them: not for --help
        METADATA_KEY,
        config_of,
        load_checkpoint,
    )

    content = load_checkpoint(source)
    chosen = config_of(content)["data"]
    data = MNISTDataModule(**{**chosen, "data_dir": options.data_dir or chosen.get("data_dir", "data")})
    data.prepare_data()
    data.setup()
    if data.fingerprint != content[METADATA_KEY]["data"]:
        raise InputError(f"{source} was trained on other data than {data.data_dir} has")
    assert data.digits is not None
    like, val = None, data.val_indices
    if options.like:
        path = locate_model(options.like)
        like, _, threshold, told = load_calibrated(path)
        if threshold == 1:
            raise InputError(f"{options.like} is not calibrated itself")
        theirs = config_of(told)["data"]
        split = MNISTDataModule(**{**theirs, "data_dir": data.data_dir})
        split.setup()
        val = split.train_indices[:IMAGES]
    elif not data.val_size:
        raise InputError(
            f"{source} was trained on all images: none is left to calibrate on; add --like CHECKPOINT, from a run of "
            "the same recipe with data.val_size"
        )
    written = calibrate_checkpoint(source, target, data.digits, data.train_indices, val, like=like)
    state = written[METADATA_KEY]["calibration"]["state"]
    print(f"calibrated: {target}, temperature {float(state['temperature']):.3f}")
