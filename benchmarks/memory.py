"""Peak resident memory of `mnist-lit fit` by batch size, beside the tutorial's own loop and plain Lightning at 512.

    python benchmarks/memory.py --data_dir data

`fit` holds out 5,000 images, then validates and calibrates at its end; the other two only train. The operating system
measures each process from start to end; of several processes the largest counts.
"""

from pathlib import Path

from measurement import benchmark_parser, fit, measure_command, report
from throughput import NAMES, PLAIN, TUTORIAL, variant_command

BATCH_SIZES = (64, 128, 512)


def main() -> None:
    """Run every variant in a process of its own, in turn."""
    options = benchmark_parser(__doc__, data_dir="data", steps=50, rounds=3).parse_args()
    data_dir = str(Path(options.data_dir).resolve())
    rounds: dict[str, list[float]] = {}
    limits = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", str(options.steps)]
    limits += ["--data.val_size", "5000", "--data.data_dir", data_dir]
    for _ in range(options.rounds):
        for size in BATCH_SIZES:
            run = fit("--config", "tutorial", "--data.batch_size", str(size), *limits)
            rounds.setdefault(f"`mnist-lit fit`, {size}", []).append(run.peak_mib)
        for variant in (TUTORIAL, PLAIN):
            _, peak_mib, _ = measure_command(variant_command(variant, data_dir, options.steps))
            rounds.setdefault(f"{NAMES[variant]}, 512", []).append(peak_mib)
    report("Peak memory", "MiB", rounds, "`mnist-lit fit`, 128", options.output)


if __name__ == "__main__":
    main()
