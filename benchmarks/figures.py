"""What TensorBoard's figures cost: the same fit with and without them, in turn.

python benchmarks/figures.py
"""

import argparse
from pathlib import Path

from contest import fit, report


def main() -> None:
    """Run the pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="quickstart", help="recipe")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("options", nargs="*", help="of `mnist-lit fit`, after --")
    options = parser.parse_args()
    rounds: dict[str, list[float]] = {"with figures": [], "without": []}
    pair = [("with figures", "true"), ("without", "false")]
    for _ in range(options.rounds):
        pair.reverse()  # who goes first must not matter
        for contestant, figures in pair:
            seconds, _ = fit("--config", options.config, "--figures", figures, *options.options)
            rounds[contestant].append(seconds)
    report(f"A fit of {options.config}", "seconds", rounds, "without", options.output)


if __name__ == "__main__":
    main()
