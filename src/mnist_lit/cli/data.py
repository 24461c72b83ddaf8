"""`mnist-lit data`: download and verify a dataset, and print what it contains."""

from pathlib import Path

from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.data.download import DEFAULT_TIMEOUT, IDX_DATASETS, TORCHVISION_DATASETS, download_dataset
from mnist_lit.errors import InputError
from mnist_lit.system.console import say
from mnist_lit.system.error_messages import did_you_mean

DOWNLOADABLE = (*IDX_DATASETS, "digits")


def main(command: str, args: list[str]) -> None:
    """Download missing files, verify all of them and print the size of each split."""
    parser = CommandParser(command, "Download and verify a dataset, and print what it contains.")
    # Each option also has the name that `fit` gives it.
    names = f"{', '.join(DOWNLOADABLE)} (default: mnist)"
    folder = "the folder of the dataset's files (default: data)"
    parser.add_argument("--dataset", "--data.dataset", default="mnist", help=names)
    parser.add_argument("--data_dir", "--data.data_dir", default="data", metavar="FOLDER", help=folder)
    mirrors = "base URLs to download from instead of the usual ones, tried in turn"
    parser.add_argument("--mirrors", "--data.mirrors", metavar="URL[,URL…]", help=mirrors)
    limit = f"seconds per mirror and file (default: {DEFAULT_TIMEOUT:g})"
    timeout = "--timeout", "--data.timeout"
    parser.add_argument(*timeout, type=float, default=DEFAULT_TIMEOUT, metavar="SECONDS", help=limit)
    options = parser.parse_args(args)
    dataset = options.dataset
    if dataset not in DOWNLOADABLE:
        hint = "; `fit` downloads it" if dataset in TORCHVISION_DATASETS else did_you_mean(dataset, DOWNLOADABLE)
        raise InputError(f"--dataset: expected {', '.join(DOWNLOADABLE)}, got {dataset or 'nothing'}{hint}")
    if dataset != "digits":
        download_dataset(dataset, Path(options.data_dir), options.mirrors, options.timeout)
    from mnist_lit.data.datasets import load_dataset  # imports torch, which --help must not wait for

    data = load_dataset(dataset, options.data_dir)
    for split, images in (("train", data.train_images), ("test", data.test_images)):
        height, width = images.shape[1:]
        say(f"{split:<6}{len(images):>7,} images of {height}×{width}, {len(data.classes)} classes")
    say(f"{dataset}: complete and verified; fingerprint {data.fingerprint()}")
