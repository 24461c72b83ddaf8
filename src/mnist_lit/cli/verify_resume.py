"""`mnist-lit verify-resume`: train once undisturbed and once under kills, and compare bit for bit.

Runs the command itself, in processes of its own, and kills them with SIGKILL. Trains nothing here.
"""

import tempfile
from pathlib import Path

from mnist_lit.errors import InputError
from mnist_lit.experiments.verify_resume import verify_resume
from mnist_lit.system.arguments import CommandParser

__all__ = ["main"]


def main(command: str, args: list[str]) -> int:
    """Print the verdict; returns 0 only where all is equal, else 1."""
    parser = CommandParser(
        command,
        "Train once undisturbed and once with kills at random moments; compare bit for bit.",
        epilog="All other options are `mnist-lit fit`'s. Exit code 0: equal; 1: different; 2: the fit refused them.",
    )
    parser.add_argument("--kills", type=int, default=5, help="how often the second run is killed (default: 5)")
    parser.add_argument("--kill_seed", type=int, default=0, help="what the moments are drawn from (default: 0)")
    parser.add_argument("--folder", type=Path, help="where to keep both runs; else they are removed")
    own, fit = parser.parse_known_args(args)
    if any(arg.partition("=")[0] == "--seeds" for arg in fit):
        raise InputError("--seeds: one run is verified; --seed_everything says of which seed")
    if own.kills < 0:
        raise InputError(f"--kills: expected 0 or more, got {own.kills}")
    if own.folder:
        own.folder.mkdir(parents=True, exist_ok=True)
        return verify_resume(fit, own.kills, own.kill_seed, own.folder)
    with tempfile.TemporaryDirectory() as folder:
        return verify_resume(fit, own.kills, own.kill_seed, Path(folder))
