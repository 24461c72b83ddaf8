"""`mnist-lit data`: fetch and verify a dataset, and say what is there."""

from pathlib import Path

from mnist_lit.data.download import DEFAULT_TIMEOUT, TORCHVISION_CLASSES, download_dataset
from mnist_lit.errors import InputError
from mnist_lit.system.arguments import CommandParser, did_you_mean

__all__ = ["main"]


def main(command: str, args: list[str]) -> None:
    """Download what is missing, read everything, print what was found."""
    parser = CommandParser(command, "Fetch and verify a dataset, and say what is there.")
    # Named as for `fit` too: both stand in the same shell history.
    names = "mnist (default), fashion_mnist, kmnist or digits"
    folder = "the folder of the dataset's files (default: data)"
    parser.add_argument("--dataset", "--data.dataset", dest="dataset", default="mnist", help=names)
    parser.add_argument("--data_dir", "--data.data_dir", dest="data_dir", default="data", help=folder)
    mirrors = "addresses to download from in the place of the usual ones; tried in turn"
    parser.add_argument("--mirrors", "--data.mirrors", dest="mirrors", metavar="URL[,URL…]", help=mirrors)
    limit = f"seconds a mirror may take for a file (default: {DEFAULT_TIMEOUT:g})"
    parser.add_argument("--timeout", "--data.timeout", dest="timeout", type=float, default=DEFAULT_TIMEOUT, help=limit)
    options = parser.parse_args(args)

    known = (*TORCHVISION_CLASSES, "digits")
    if options.dataset not in known:
        raise InputError(
            f"no dataset {options.dataset}{did_you_mean(options.dataset, known)} (there are {', '.join(known)})"
        )
    if options.dataset != "digits":
        download_dataset(options.dataset, Path(options.data_dir), options.mirrors, options.timeout)
    from mnist_lit.data.datasets import load_dataset  # torch comes with it: not for --help

    data = load_dataset(options.dataset, options.data_dir)
    for split, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("test", data.test_images, data.test_labels),
    ):
        height, width = images.shape[1:]
        print(f"{split:<6}{len(images):>7,} images of {height}×{width}, {int(labels.max()) + 1} classes")
    print(f"{options.dataset}: complete and as published; fingerprint {data.fingerprint()}")
