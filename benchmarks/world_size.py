"""One to four processes: the same images in every step, the same losses, the same test score. CPU, DDP over gloo.

    python benchmarks/world_size.py --data_dir data

Trains 50 steps of the recipe `best`, whose warps and dropout are random, with each number of processes, and compares a
hash of every step's warped images and labels in the order of the whole batch, and the last loss. Plain SGD replaces
Muon and SAM, which amplify rounding errors. Then all of them test one checkpoint, trained by one process: the numbers
of images counted and right must agree. The control is another seed.
"""

import csv
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from measurement import benchmark_parser, save_results
from mnist_lit.data.loaders import Batch
from mnist_lit.system.distributed import all_gather_objects

STEPS = 50
PLAIN_SGD = ["--model.optimizer=sgd", "--model.lr=0.01", "--model.momentum=0", "--model.schedule=constant"]
HERE = Path(__file__).parent


class HashBatches(Callback):
    """Writes the SHA-256 of every training step's images, labels and indices to `order.txt`."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Hash the whole step: the shards of all processes, in the order of their ranks."""
        shards = all_gather_objects((batch.images.cpu(), batch.labels.cpu(), batch.indices.cpu()))
        for field in zip(*shards, strict=True):
            for shard in field:
                self.digest.update(shard.numpy().tobytes())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the hash."""
        if trainer.is_global_zero:
            Path("order.txt").write_text(self.digest.hexdigest(), encoding="utf-8")


def run(folder: str | Path, *args: str) -> str:
    """Run `mnist-lit` in a folder; returns what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mnist_lit", *args, "--trainer.accelerator", "cpu"]
    return subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def measure(fit: list[str], reference: str, processes: int, seed: int) -> dict[str, Any]:
    """Train, test the reference checkpoint, and collect the results."""
    devices = ["--trainer.devices", str(processes), *(["--trainer.strategy", "ddp"] if processes > 1 else [])]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--seed_everything", str(seed), "--trainer.callbacks", "world_size.HashBatches", *PLAIN_SGD]
        run(folder, *fit, *options, *devices)
        output = run(folder, "test", "--ckpt_path", reference, *devices)
        with Path(folder, "lightning_logs/version_0/metrics.csv").open(encoding="utf-8") as file:
            losses = [float(row["train/loss_step"]) for row in csv.DictReader(file) if row["train/loss_step"]]
        table = dict(line.split()[:2] for line in output.splitlines() if line.startswith(("  images", "  right")))
        return {
            "processes": processes,
            "seed": seed,
            "order": Path(folder, "order.txt").read_text(encoding="utf-8")[:16],
            "loss": losses[STEPS - 1],
            "images": int(table["images"].replace(",", "")),
            "right": int(table["right"].replace(",", "")),
        }


def main() -> None:
    """Print the table."""
    parser = benchmark_parser(__doc__, processes=4)
    parser.add_argument("--data_dir", type=Path, help="folder with MNIST's four archives; default: embedded digits")
    options = parser.parse_args()
    data = ["--data.dataset", "digits", "--data.batch_size", "24"]
    if options.data_dir:
        data = ["--data.data_dir", str(options.data_dir.resolve())]
    cases = [(processes, 0) for processes in range(1, options.processes + 1)] + [(1, 1)]
    fit = ["fit", "--config", "best", "--model.sam_rho", "0", *data]
    fit += ["--trainer.max_steps", str(STEPS), "--trainer.log_every_n_steps", "1"]
    rows = []
    print("| processes | seed | order (sha256) | loss after 50 steps | images tested | right |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        run(folder, *fit)
        reference = str(Path(folder, "lightning_logs/version_0/checkpoints/last.ckpt"))
        for processes, seed in cases:
            row = measure(fit, reference, processes, seed)
            rows.append(row)
            print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)
    save_results(options.output, "World size", {"data": "mnist" if options.data_dir else "digits", "rows": rows})


if __name__ == "__main__":
    main()
