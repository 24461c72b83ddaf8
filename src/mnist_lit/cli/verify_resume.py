"""`mnist-lit verify-resume`: train once uninterrupted and once with kills, and compare bit for bit."""

from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.errors import InputError, require
from mnist_lit.system.arguments import has_option
from mnist_lit.system.atomic_file import report_write_errors


def main(command: str, args: list[str]) -> int:
    """Print the verdict; returns 0 if everything is equal, otherwise 1."""
    parser = CommandParser(
        command,
        "Train once uninterrupted and once with kills at random moments; compare bit for bit.",
        epilog="All other options go to `mnist-lit fit`. Exit code 0: equal; 1: different; 2: wrong options.",
    )
    parser.add_argument("--kills", type=int, default=5, help="how often to kill the second run (default: %(default)s)")
    parser.add_argument(
        "--kill_seed", type=int, default=0, help="the seed for the moments of the kills (default: %(default)s)"
    )
    parser.add_argument("--folder", type=Path, help="the folder to keep both runs in (default: remove them)")
    options, fit = parser.parse_before_fit(args)
    if has_option(fit, "--seeds"):
        raise InputError("--seeds: verify-resume trains one seed; choose it with --seed_everything")
    require("--kills", options.kills, "0 or more", options.kills >= 0)
    from mnist_lit.experiments.verify_resume import verify_resume  # imports torch, which --help does not need

    with nullcontext(options.folder) if options.folder else TemporaryDirectory() as folder:
        with report_write_errors(Path(folder)):
            Path(folder).mkdir(parents=True, exist_ok=True)
        return verify_resume(fit, options.kills, options.kill_seed, Path(folder))
