"""Images per second on the tutorial's recipe: `mnist-lit fit`, a bare loop, the tutorial's own, and plain Lightning.

    python benchmarks/throughput.py --data_dir data

The bare loop is the least a step can cost: forward, loss, backward and optimizer on prepared batches of standardized
tensors. No warp, metrics, logging or checkpoint. The tutorial's loop and plain Lightning load the images with
torchvision in two workers.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from measurement import benchmark_parser, fit, report

BARE, TUTORIAL, PLAIN = "bare", "tutorial", "lightning"
NAMES = {BARE: "bare step loop", TUTORIAL: "the tutorial's loop", PLAIN: "plain Lightning"}


def trainer_of(variant: str) -> Callable[[str, int], float]:
    """A variant's training function: (data_dir, steps) → images per second."""
    if variant == BARE:
        import bare_loop

        return bare_loop.train
    if variant == TUTORIAL:
        import tutorial_loop

        return lambda data_dir, steps: tutorial_loop.train(data_dir, steps)[0]
    import plain_lightning

    return plain_lightning.train


def variant_command(variant: str, data_dir: str, steps: int) -> list[str]:
    """The command that runs one variant alone and prints its images per second on the last line."""
    return [sys.executable, __file__, "--only", variant, "--data_dir", data_dir, "--steps", str(steps)]


def images_per_second(variant: str, data_dir: str, steps: int) -> float:
    """Run one variant in a process of its own."""
    command = variant_command(variant, data_dir, steps)
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(run.stdout.splitlines()[-1])


def main() -> None:
    """Run the variants in turn, each in a process of its own."""
    parser = benchmark_parser(__doc__, data_dir="data", steps=118, rounds=3)
    parser.add_argument("--only", choices=NAMES, help="run one of the others in this process and print its rate")
    parser.add_argument("--precision", help="add a second fit in this precision, for example bf16-mixed")
    options = parser.parse_args()
    data_dir = str(Path(options.data_dir).resolve())
    if options.only:
        print(trainer_of(options.only)(data_dir, options.steps))
        return
    fits = {"`mnist-lit fit`": list[str]()}
    if options.precision:
        fits[f"`mnist-lit fit`, {options.precision}"] = ["--trainer.precision", options.precision]
    rounds: dict[str, list[float]] = {name: [] for name in (*fits, *NAMES.values())}
    fit_args = ["--config", "tutorial", "--data.data_dir", data_dir]
    fit_args += ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", str(options.steps)]
    for _ in range(options.rounds):
        for name, precision in fits.items():
            rounds[name].append(fit(*fit_args, *precision).images_per_second)
        for variant, name in NAMES.items():
            rounds[name].append(images_per_second(variant, data_dir, options.steps))
    for reference in (NAMES[BARE], NAMES[TUTORIAL]):
        report("Training", "images/s", rounds, reference, options.output)


if __name__ == "__main__":
    main()
