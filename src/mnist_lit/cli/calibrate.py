"""`mnist-lit calibrate`: fit a checkpoint's temperature and outlier detector after training."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.cli.network import build_network
from mnist_lit.errors import InputError, require
from mnist_lit.runs.locate import LATEST, is_pretrained, locate_model
from mnist_lit.runs.recipes import differences, recipe_options
from mnist_lit.system.console import say

if TYPE_CHECKING:
    from torch import Tensor

    from mnist_lit.datamodule import MNISTDataModule
    from mnist_lit.evaluation.calibration import LoadedModel

MIN_SHARED_IMAGES, MAX_SHARED_IMAGES = 100, 20_000  # training images on which --like compares the two runs' detectors
NOT_IN_RECIPE = {"seed_everything": None, "data.val_size": None}  # what such runs may differ in


def main(command: str, args: list[str]) -> None:
    """Calibrate and save a checkpoint."""
    options = _parse(command, args)
    source = locate_model(options.model or LATEST)
    target, like = options.output or source, locate_model(options.like) if options.like else None
    if is_pretrained(target):
        raise InputError("the shipped model is never overwritten; add --output FILE")
    if like and like.resolve() == source.resolve():
        raise InputError(
            f"--like: {like} is the checkpoint to calibrate; name that first, as in `calibrate RUN --like OTHER`"
        )
    from mnist_lit.evaluation.calibration import calibrate_checkpoint, load_calibrated
    from mnist_lit.evaluation.checkpoint_data import datamodule_from_checkpoint, require_same_data
    from mnist_lit.runs.checkpoint import load_checkpoint

    content = load_checkpoint(source)
    data = datamodule_from_checkpoint(content, options.data_dir)
    require_same_data(content, data, source)
    network, val, reference = build_network(options.network), data.val_indices, None
    if like:
        model = load_calibrated(like, network)
        val, reference = _shared_images(like, model, content, data), model.network
    elif not data.val_size:
        raise InputError(
            f"{source} was trained on all images, so none are left to calibrate on; train the same recipe with "
            f"data.val_size, then `mnist-lit calibrate {source} --like THAT_RUN`"
        )
    say(f"calibrating {source}; this may take a minute or two", flush=True)
    indices = data.train_indices, val
    calibrated = calibrate_checkpoint(source, target, data.in_memory, *indices, like=reference, network=network)
    temperature = float(calibrated.temperature)
    too_few = " (too few mistakes on the validation images to fit a temperature)" if temperature == 1 else ""
    note = f" (that of {options.like})" if options.like else too_few
    say(f"calibrated: {target}, temperature {temperature:.3f}{note}")


def _parse(command: str, args: list[str]) -> Namespace:
    """The options."""
    about = """Calibrate a checkpoint's probabilities and its rejection of images that are not digits. `fit` does this
    automatically if images are held out for validation."""
    parser = CommandParser(command, about)
    parser.add_model_argument("the checkpoint, or its run (default: the newest run's best)")
    other = "a calibrated checkpoint of the same recipe, for a run that held out no images"
    parser.add_argument("--like", metavar="CHECKPOINT", help=other)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.ckpt",
        help="write a copy, stripped for sharing, to this file instead of changing the checkpoint",
    )
    parser.add_data_dir_argument()
    parser.add_network_argument()
    options: Namespace = parser.parse_args(args)
    return options


def _shared_images(like: Path, model: "LoadedModel", content: dict[str, Any], data: "MNISTDataModule") -> "Tensor":
    """The positions of the training images that a checkpoint was trained on as well as the one to calibrate it like.

    like, model: the other one. data: the checkpoint's. Raises InputError if the other is not calibrated, or was trained
    on other data; prints a warning if it has another recipe."""
    import torch

    from mnist_lit.evaluation.checkpoint_data import datamodule_from_checkpoint
    from mnist_lit.runs.metadata import Metadata, config_of

    same = [(metadata.data, metadata.classes) for metadata in map(Metadata.of, (content, model.content))]
    require("--like", like, "a checkpoint trained on the same images and classes", same[0] == same[1])
    if model.threshold == 1:
        raise InputError(f"--like: expected a calibrated checkpoint, got {like}, which is not calibrated")
    seen = datamodule_from_checkpoint(model.content, data.data_dir, download=False).train_indices
    shared = seen[torch.isin(seen, data.train_indices)][:MAX_SHARED_IMAGES]
    expected = f"a checkpoint trained on at least {MIN_SHARED_IMAGES} of the same images"
    require("--like", like, expected, len(shared) >= MIN_SHARED_IMAGES)
    recipes = ({**recipe_options(config_of(one)), **NOT_IN_RECIPE} for one in (model.content, content))
    if others := differences(*recipes):
        say(f"calibrate: {like} has a different recipe, so its temperature may not suit: {others}", file=sys.stderr)
    return shared
