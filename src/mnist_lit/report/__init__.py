"""`mnist-lit report`: what a run, or a group of seeds, has learnt, as one page to look at or one JSON object.

Every number of the test comes from the run's `predictions.csv`, which `mnist-lit test` wrote. Trains nothing.
"""

import argparse
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_lit import __version__, children, records, runs
from mnist_lit.errors import InputError
from mnist_lit.files import write_whole
from mnist_lit.records import Scored
from mnist_lit.suggest import Parser

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from mnist_lit.calibration import Calibrated, Loaded
    from mnist_lit.datamodule import DigitsDataModule

__all__ = ["main"]

IMAGES = 2000  # whose reading under changes is measured
AGREES = 1e-3  # by which a probability may differ from what the checkpoint says now, on whatever device
BATCH = 500
KEYS = """\
--json prints one object. Shares are in [0, 1], classes are places in `classes`, what has no value is null:
  name, run, classes   what is reported, which run of a group the details are of, the names of the classes
  files                of pictures of your own: where each test image comes from
  test                 images, right, accuracy, low, high (95 % interval), wrong; confusion[true][predicted], confused;
                       classes; calibration.before and .after (nll, brier, ece, bins); coverage; detector; mistakes;
                       suspects (likely label errors)
  group                of several seeds: n, mean, sd, low, high, ensemble, runs, suspects; else null
  curves               of metrics.csv, each [steps, value]
  robustness           changes.rotation.points and so on: amount, and right, accuracy, low, high of `images`
  origin               data, settings, config, versions, commands"""


def main(command: str, args: list[str]) -> None:
    """Write the page, or print the numbers. Raises InputError where there is no run, or its data are not there."""
    parser = Parser(
        command,
        "One HTML file about a run, or a group of seeds: score, curves, mistakes, calibration, robustness, recipe. It "
        "loads nothing from elsewhere. Where the run was not tested yet, that is done first.",
        KEYS,
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", nargs="?", metavar="RUN", help="its folder or name, or a group's (default: the newest)")
    parser.add_argument("--output", type=Path, help="where to write it (default: report.html in the run)")
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON, and write no page")
    measured = f"test images whose reading under rotation, noise … is measured (default: {IMAGES:,})"
    parser.add_argument("--images", type=int, default=IMAGES, help=measured)
    parser.add_argument("--data_dir", help="the folder of the dataset's files (default: the run's)")
    options = parser.parse_args(args)
    if options.images < 1:
        raise InputError(f"--images: want 1 or more, got {options.images}")
    if options.json and options.output:
        raise InputError("--json goes to standard output, and --output names the page: want one of them")
    folder = runs.find(options.run) if options.run else runs.run_of(runs.newest(Path(runs.LOGS)))
    members = runs.whole(folder) or [folder]

    from mnist_lit import calibration  # torch comes with these: not for --help
    from mnist_lit.memory import keep_memory
    from mnist_lit.report import filters, numbers, page, robustness
    from mnist_lit.report.origin import origin

    keep_memory()
    loaded = [calibration.load(runs.best(run) or run) for run in members]
    with contextlib.redirect_stdout(sys.stderr):  # what it says of the data is no part of the JSON
        data = _data(loaded, options.data_dir)
    loader = data.test_dataloader()
    images, labels = loader.images, loader.labels
    found = [
        _scored(run, model.network, images, labels, options.data_dir)
        for run, model in zip(members, loaded, strict=True)
    ]
    tests, model, named = [test for test, _ in found], loaded[0], folder.resolve()
    temperatures = [float(each.network.temperature) if each.threshold < 1 else None for each in loaded]
    names = [runs.name(run.resolve()) for run in members]
    report: dict[str, Any] = {
        "mnist_lit": __version__,
        "name": runs.name(named),
        "run": names[0],
        "classes": tests[0].classes,
        "files": data.digits.files if data.digits else (),
        "test": numbers.single(tests[0], temperatures[0], found[0][1] > model.threshold if temperatures[0] else None),
        "group": numbers.group(names, tests, temperatures) if folder != members[0] else None,
        "curves": numbers.curves(members[0]),
        "robustness": robustness.measured(model.network.network, images, labels, options.images),
        "origin": origin(named, members, model.content, data),
    }
    if options.json:
        print(json.dumps(report, allow_nan=False))
        return
    network = model.network.network
    seen = filters.first_filters(network), filters.layers(network, images[0])
    text = page.render(report, images.cpu().numpy(), *seen).encode()
    target = options.output or folder / "report.html"
    try:
        write_whole(target, text)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from error
    print(f"report: {target}, {len(text) / 1000:,.0f} kB")


def _data(loaded: "list[Loaded]", data_dir: str | None) -> "DigitsDataModule":
    """The data that the runs were trained on, on the device that computes. Raises InputError where it is other data."""
    import torch

    from mnist_lit import checkpoint
    from mnist_lit.datamodule import DigitsDataModule

    chosen = checkpoint.settings(loaded[0].content)["data"]
    data = DigitsDataModule(**chosen | ({"data_dir": data_dir} if data_dir else {}))
    data.prepare_data()
    data.setup()
    data.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for model in loaded:
        if model.content[checkpoint.KEY]["data"] != data.fingerprint:
            raise InputError(f"the run was trained on other data than {data.data_dir} has; want --data_dir with that")
        model.network.to(data.device)
    return data


def _scored(
    run: Path, network: "Calibrated", images: "Tensor", labels: "Tensor", data_dir: str | None
) -> "tuple[Scored, NDArray[np.float32]]":
    """A run's test, and how much of an outlier each image is (N,).

    Tests the run first where its last test was none, or of another checkpoint. Raises InputError where that fails.
    """
    probs, outliers = _look(network, images)
    test = records.scored(run)
    if test is None or not _agree(test, probs, labels):
        print(f"report: testing {run} first", file=sys.stderr, flush=True)
        place = ["--data.data_dir", data_dir] if data_dir else []
        if children.run("test", ["--ckpt_path", str(runs.best(run)), *place], stdout=subprocess.DEVNULL):
            raise InputError(f"{run} could not be tested")
        test = records.scored(run)
    if test is None or not _agree(test, probs, labels):
        raise InputError(f"{run}/predictions.csv is not what {runs.best(run)} says of these images")
    return test, outliers


def _look(network: "Calibrated", images: "Tensor") -> "tuple[NDArray[np.float32], NDArray[np.float32]]":
    """Probabilities (N, C) before calibration, and how much of an outlier each image is (N,)."""
    import torch

    with torch.inference_mode():
        parts = []
        for batch in torch.split(images, BATCH):
            log_probs, evidence = network.look(batch)
            parts.append((log_probs.exp().cpu(), network.outliers(evidence).cpu()))
    probs, outliers = (torch.cat(column) for column in zip(*parts, strict=True))
    return probs.numpy(), outliers.numpy()


def _agree(test: Scored, probs: "NDArray[np.float32]", labels: "Tensor") -> bool:
    """Whether a test was of this checkpoint and of these images."""
    said = np.array(test.probs)
    same = test.labels == labels.tolist() and said.shape == probs.shape
    return same and float(np.abs(said - probs).max()) <= AGREES
