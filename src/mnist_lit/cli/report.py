"""`mnist-lit report`: everything about a run, or a group of seeds, as one HTML page or one JSON object."""

import json
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.cli.network import build_network
from mnist_lit.errors import InputError, require
from mnist_lit.runs.folders import (
    CONFIG_YAML,
    REPORT_HTML,
    find_run,
    finished_members,
    newest_checkpoint,
    paths_named,
    report_name,
    run_of_checkpoint,
)
from mnist_lit.runs.locate import LAST, LATEST, PRETRAINED, locate_model
from mnist_lit.system.atomic_file import report_write_errors, write_atomic
from mnist_lit.system.console import say

ROBUSTNESS_IMAGES = 2000  # test images that the robustness is measured on
KEYS = (
    "--json prints one object with the keys mnist_lit, name, run, classes, files, test, group, curves, robustness and "
    "origin; docs/report.md describes each of them."
)


def main(command: str, args: list[str]) -> None:
    """Write the page or print the numbers. Raises InputError if there is no such run, or its data is missing."""
    options = _parse(command, args)
    folder, members = _runs(options.model)
    target = options.output or folder / report_name(members[0] if members[0].is_file() else None)
    if not options.json:
        with report_write_errors(target):
            target.parent.stat()  # measuring takes a minute
    from mnist_lit.evaluation.report.activations import first_filters, layer_activations  # imports torch
    from mnist_lit.evaluation.report.build import build_report
    from mnist_lit.evaluation.report.page import render_page
    from mnist_lit.system.malloc import keep_freed_memory

    keep_freed_memory()
    network, data_dir = build_network(options.network), options.data_dir
    report = build_report(
        folder, members, options.images, network=network, test_options=options.network, data_dir=data_dir
    )
    if options.json:
        say(json.dumps(report.numbers, allow_nan=False))
        return
    activations = layer_activations(report.network, report.images[0])
    page = render_page(report.numbers, report.images.cpu().numpy(), first_filters(report.network), activations).encode()
    with report_write_errors(target):
        write_atomic(target, page)
    say(f"report: {target}, {len(page) / 1000:,.0f} kB")


def _parse(command: str, args: list[str]) -> Namespace:
    """The options, checked."""
    parser = CommandParser(
        command,
        "Write one HTML file about a run, or a group of seeds: score, curves, mistakes, calibration, robustness, "
        "recipe. The file loads nothing from elsewhere. A run that has not been tested yet is tested first.",
        KEYS,
    )
    parser.add_model_argument(
        "a run or a group of seeds by folder or name, a checkpoint, or last, the newest run's last checkpoint "
        "(default: latest, the newest run, or its group, if that is complete)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE.html", help="where to write the page (default: report.html in the run)"
    )
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON instead of writing a page")
    images = f"number of test images for the robustness section (default: {ROBUSTNESS_IMAGES:,})"
    parser.add_argument("--images", type=int, default=ROBUSTNESS_IMAGES, help=images)
    parser.add_data_dir_argument()
    parser.add_network_argument()
    options: Namespace = parser.parse_args(args)
    require("--images", options.images, "1 or more", options.images >= 1)
    if options.output:
        output: Path = options.output
        require("--output", output.name, "a file name that ends in .html", output.suffix.lower() == ".html")
    if options.json and options.output:
        raise InputError("expected --json or --output, got both: --json prints to standard output and writes no page")
    return options


def _runs(model: str | None) -> tuple[Path, list[Path]]:
    """The folder to report on and its runs; any checkpoint but the best of a run stands for itself."""
    if model in (None, LATEST):
        folder = run_of_checkpoint(newest_checkpoint())
        with suppress(InputError):  # an unfinished group
            if members := finished_members(folder.parent):
                return folder.parent, members
    elif model == LAST or any(path.is_file() for path in paths_named(model)):
        checkpoint = locate_model(model)
        folder = run_of_checkpoint(checkpoint)
        if not folder.joinpath(CONFIG_YAML).is_file() or report_name(checkpoint) != REPORT_HTML:
            return folder, [checkpoint]
    elif model == PRETRAINED:
        raise InputError("the package has the shipped model, but not its run; README.md has its figures")
    else:
        folder = find_run(model)
    return folder, finished_members(folder) or [folder]
