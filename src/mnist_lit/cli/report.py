"""`mnist-lit report`: what a run, or a group of seeds, has learnt, as one page to look at or one JSON object.

Every number of the test comes from the run's `predictions.csv`, which `mnist-lit test` wrote. Trains nothing.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_lit import __version__
from mnist_lit.errors import InputError
from mnist_lit.runs.folders import (
    LOGS,
    best_checkpoint,
    find_run,
    finished_members,
    newest_checkpoint,
    run_name,
    run_of_checkpoint,
)
from mnist_lit.system.arguments import CommandParser
from mnist_lit.system.atomic_file import write_atomic

if TYPE_CHECKING:
    pass
from mnist_lit.evaluation.report.build import load_test_data, tested_predictions

__all__ = ["main"]

ROBUSTNESS_IMAGES = 2000  # whose reading under changes is measured
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
    parser = CommandParser(
        command,
        "One HTML file about a run, or a group of seeds: score, curves, mistakes, calibration, robustness, recipe. It "
        "loads nothing from elsewhere. Where the run was not tested yet, that is done first.",
        KEYS,
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", nargs="?", metavar="RUN", help="its folder or name, or a group's (default: the newest)")
    parser.add_argument("--output", type=Path, help="where to write it (default: report.html in the run)")
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON, and write no page")
    measured = f"test images whose reading under rotation, noise … is measured (default: {ROBUSTNESS_IMAGES:,})"
    parser.add_argument("--images", type=int, default=ROBUSTNESS_IMAGES, help=measured)
    parser.add_argument("--data_dir", help="the folder of the dataset's files (default: the run's)")
    options = parser.parse_args(args)
    if options.images < 1:
        raise InputError(f"--images: expected 1 or more, got {options.images}")
    if options.json and options.output:
        raise InputError("--json goes to standard output, and --output names the page: expected one of them")
    folder = find_run(options.run) if options.run else run_of_checkpoint(newest_checkpoint(Path(LOGS)))
    members = finished_members(folder) or [folder]

    from mnist_lit.evaluation.calibration import load_calibrated  # torch comes with these: not for --help
    from mnist_lit.evaluation.report.activations import first_filters, layer_activations
    from mnist_lit.evaluation.report.page import render_page
    from mnist_lit.evaluation.report.provenance import provenance
    from mnist_lit.evaluation.report.robustness import measure_robustness
    from mnist_lit.evaluation.report.scores import group_scores, run_scores, training_curves
    from mnist_lit.system.malloc import keep_freed_memory

    keep_freed_memory()
    loaded = [load_calibrated(best_checkpoint(run) or run) for run in members]
    with contextlib.redirect_stdout(sys.stderr):  # what it says of the data is no part of the JSON
        data = load_test_data(loaded, options.data_dir)
    loader = data.test_dataloader()
    images, labels = loader.images, loader.labels
    found = [
        tested_predictions(run, model.network, images, labels, options.data_dir)
        for run, model in zip(members, loaded, strict=True)
    ]
    tests, model, named = [test for test, _ in found], loaded[0], folder.resolve()
    temperatures = [float(each.network.temperature) if each.threshold < 1 else None for each in loaded]
    names = [run_name(run.resolve()) for run in members]
    report: dict[str, Any] = {
        "mnist_lit": __version__,
        "name": run_name(named),
        "run": names[0],
        "classes": tests[0].classes,
        "files": data.digits.files if data.digits else (),
        "test": run_scores(tests[0], temperatures[0], found[0][1] > model.threshold if temperatures[0] else None),
        "group": group_scores(names, tests, temperatures) if folder != members[0] else None,
        "curves": training_curves(members[0]),
        "robustness": measure_robustness(model.network.network, images, labels, options.images),
        "origin": provenance(named, members, model.content, data),
    }
    if options.json:
        print(json.dumps(report, allow_nan=False))
        return
    network = model.network.network
    seen = first_filters(network), layer_activations(network, images[0])
    text = render_page(report, images.cpu().numpy(), *seen).encode()
    target = options.output or folder / "report.html"
    try:
        write_atomic(target, text)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from error
    print(f"report: {target}, {len(text) / 1000:,.0f} kB")
