"""Images a second on the tutorial's recipe: `mnist-lit fit`, a bare loop, the tutorial's own, and plain Lightning.

    python benchmarks/throughput.py --data_dir data

The bare loop is the least that a step can be: forward, loss, backward, optimizer, on batches that lie ready as
standardized tensors. No warp, no metrics, no logging, no checkpoint. The tutorial's loop and the plain Lightning
version read with torchvision and two workers.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from contest import fit, options, report

BARE, TUTORIAL, PLAIN = "bare", "tutorial", "lightning"
NAMES = {BARE: "bare step loop", TUTORIAL: "the tutorial's loop", PLAIN: "plain Lightning"}


def train(contestant: str) -> Callable[[str, int], float]:
    """What trains: (data_dir, steps) → images a second."""
    if contestant == BARE:
        import bare_loop

        return bare_loop.train
    if contestant == TUTORIAL:
        import tutorial_loop

        return lambda data_dir, steps: tutorial_loop.train(data_dir, steps)[0]
    import plain_lightning

    return plain_lightning.train


def main() -> None:
    """Run the contestants in turn, each in a process of its own."""
    parser = options(__doc__, steps=118, rounds=3)
    parser.add_argument("--only", choices=NAMES, help="run one of the others in this process, and print its figure")
    parser.add_argument("--precision", help="a second fit in this precision, as bf16-mixed where the processor has it")
    given = parser.parse_args()
    data_dir = str(Path(given.data_dir).resolve())
    if given.only:
        print(train(given.only)(data_dir, given.steps))
        return
    ours = {"`mnist-lit fit`": list[str]()}
    if given.precision:
        ours[f"`mnist-lit fit`, {given.precision}"] = ["--trainer.precision", given.precision]
    rounds: dict[str, list[float]] = {name: [] for name in (*ours, *NAMES.values())}
    place = ["--data_dir", data_dir, "--steps", str(given.steps)]
    limits = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", str(given.steps)]
    for _ in range(given.rounds):
        for name, precision in ours.items():
            rate = fit("--config", "tutorial", "--data.data_dir", data_dir, *limits, *precision).images_per_second
            rounds[name].append(rate)
        for contestant, name in NAMES.items():
            alone = [sys.executable, __file__, "--only", contestant, *place]
            run = subprocess.run(alone, capture_output=True, text=True, check=True)
            rounds[name].append(float(run.stdout.splitlines()[-1]))
    for reference in (NAMES[BARE], NAMES[TUTORIAL]):
        report("Training", "images/s", rounds, reference, given.output)


if __name__ == "__main__":
    main()
