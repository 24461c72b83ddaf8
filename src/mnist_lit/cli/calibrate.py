"""`mnist-lit calibrate`: fit a checkpoint's temperature and outlier detector after training."""

import sys
from pathlib import Path

from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.cli.network import build_network
from mnist_lit.errors import InputError, require
from mnist_lit.runs.locate import LATEST, is_pretrained, locate_model
from mnist_lit.system.console import say

MAX_SHARED_IMAGES = 20_000  # training images on which --like compares the two runs' detectors
NOT_IN_RECIPE = {"seed_everything": None, "data.val_size": None}  # what such runs may differ in

MIN_SHARED_IMAGES = 100  # images that two runs must share


def main(command: str, args: list[str]) -> None:
    """Calibrate and save a checkpoint."""
    about = """Calibrate a checkpoint's probabilities and its rejection of images that are not digits. `fit` does this
    automatically if images are held out for validation."""
    parser = CommandParser(command, about)
    parser.add_model_argument("the checkpoint, or its run (default: the newest run's best)")
    other = "a calibrated checkpoint of the same recipe, for a run that held out no images"
    parser.add_argument("--like", metavar="CHECKPOINT", help=other)
    parser.add_argument(
        "--output",
        type=Path,
        help="write a copy, stripped for sharing, to this file instead of changing the checkpoint",
    )
    parser.add_data_dir_argument()
    parser.add_network_argument()
    options = parser.parse_args(args)
    source = locate_model(options.model or LATEST)
    target, like = options.output or source, locate_model(options.like) if options.like else None
    if is_pretrained(target):
        raise InputError("the shipped model is never overwritten; add --output FILE")
    if like and like.resolve() == source.resolve():
        raise InputError(
            f"--like: {like} is the checkpoint to calibrate; name that first, as in `calibrate RUN --like OTHER`"
        )
    import torch

    from mnist_lit.evaluation.calibration import calibrate_checkpoint, load_calibrated
    from mnist_lit.evaluation.checkpoint_data import datamodule_from_checkpoint, require_same_data
    from mnist_lit.runs.checkpoint import load_checkpoint
    from mnist_lit.runs.metadata import Metadata, config_of
    from mnist_lit.runs.recipes import differences, recipe_options

    content = load_checkpoint(source)
    data = datamodule_from_checkpoint(content, options.data_dir)
    require_same_data(content, data, source)
    assert data.digits is not None
    reference, val, network = None, data.val_indices, build_network(options.network)
    if like:
        reference, _, threshold, their_content = load_calibrated(like, network)
        same = [(metadata.data, metadata.classes) for metadata in map(Metadata.of, (content, their_content))]
        required = "a checkpoint trained on the same images and classes"
        require("--like", like, required, same[0] == same[1])
        if threshold == 1:
            raise InputError(f"--like: expected a calibrated checkpoint, got {like}, which is not calibrated")
        mine, theirs = (recipe_options(config_of(one)) for one in (content, their_content))
        if others := differences({**theirs, **NOT_IN_RECIPE}, {**mine, **NOT_IN_RECIPE}):
            say(f"calibrate: {like} has a different recipe, so its temperature may not suit: {others}", file=sys.stderr)
        seen = datamodule_from_checkpoint(their_content, data.data_dir, download=False).train_indices
        val = seen[torch.isin(seen, data.train_indices)][:MAX_SHARED_IMAGES]  # both were trained on these
        expected = f"a checkpoint trained on at least {MIN_SHARED_IMAGES} of the same images"
        require("--like", like, expected, len(val) >= MIN_SHARED_IMAGES)
    elif not data.val_size:
        raise InputError(
            f"{source} was trained on all images, so none are left to calibrate on; train the same recipe with "
            f"data.val_size, then `mnist-lit calibrate {source} --like THAT_RUN`"
        )
    say(f"calibrating {source}; this may take a minute or two", flush=True)
    indices = data.train_indices, val
    calibrated = calibrate_checkpoint(source, target, data.digits, *indices, like=reference, network=network)
    temperature = float(calibrated.temperature)
    too_few = " (too few mistakes on the validation images to fit a temperature)" if temperature == 1 else ""
    note = f" (that of {options.like})" if options.like else too_few
    say(f"calibrated: {target}, temperature {temperature:.3f}{note}")
