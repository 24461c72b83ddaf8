"""`mnist-lit verify-resume`: train once undisturbed and once with kills, and compare bit for bit."""

import tempfile
from pathlib import Path

from mnist_lit.errors import InputError
from mnist_lit.experiments.verify_resume import verify_resume
from mnist_lit.system.command_parser import CommandParser


def main(command: str, args: list[str]) -> int:
    """Print the verdict; returns 0 if everything is equal, otherwise 1."""
    parser = CommandParser(
        command,
        "Train once undisturbed and once with kills at random moments; compare bit for bit.",
        epilog="All other options go to `mnist-lit fit`. Exit code 0: equal; 1: different; 2: wrong options.",
    )
    parser.add_argument("--kills", type=int, default=5, help="how often to kill the second run (default: 5)")
    parser.add_argument("--kill_seed", type=int, default=0, help="the seed for the moments of the kills (default: 0)")
    parser.add_argument("--folder", type=Path, help="the folder to keep both runs in (default: remove them)")
    options, fit = parser.parse_known_args(args)
    if any(arg.partition("=")[0] == "--seeds" for arg in fit):
        raise InputError("--seeds: verify-resume trains one seed; choose it with --seed_everything")
    if options.kills < 0:
        raise InputError(f"--kills: expected 0 or more, got {options.kills}")
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        return verify_resume(fit, options.kills, options.kill_seed, options.folder)
    with tempfile.TemporaryDirectory() as folder:
        return verify_resume(fit, options.kills, options.kill_seed, Path(folder))
