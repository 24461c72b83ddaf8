"""Run folders: name a fresh one, find the newest, say where a fit begins. The standard library only.

lightning_logs/version_N/      one run; or a group, whose runs seed_0/, seed_1/ … differ in their seeds alone
    config.yaml            the command, and the whole configuration of the run
    metrics.csv            scalars; events.out.tfevents.* hold the same for TensorBoard
    checkpoints/best.ckpt  the best by validation; without validation there is none, and last.ckpt counts
    checkpoints/last.ckpt  the newest, and previous.ckpt, the one before it
    checkpoints/epoch_N.ckpt  each epoch's, with `keep_epochs`
    predictions.csv        written by `mnist-lit test`, as are TensorBoard's scalars in test/
    report.html            written by `mnist-lit report`; a group's lies in its own folder
    finished               an empty file: training came to its end
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["RunStart"]


@dataclass
class RunStart:
    """Where a fit begins. The first process decides; the others learn it when they can be told."""

    run: Path | None = None  # its folder; None: nothing is kept
    checkpoint: Path | None = None  # None: at the beginning
    continues: bool = False  # in a folder that was there, as `--resume auto` does
    finished: bool = False  # there is nothing left to do
