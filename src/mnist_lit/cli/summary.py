"""`mnist-lit summary`: the network layer by layer, measured with hooks in one forward pass."""

from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.system.console import print_table


def main(command: str, args: list[str]) -> None:
    """Print the table."""
    CommandParser(command, "Show the network, layer by layer.").parse_args(args)
    from mnist_lit.evaluation.layers import LayerRow, layer_rows  # imports torch, which --help does not need
    from mnist_lit.model import TutorialCNN

    rows = layer_rows(TutorialCNN())
    total = LayerRow("total", (), sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows), 0)
    header = ["layer", "output", "parameters", "multiply-adds", "receptive field"]
    table = [["input", "1 × 28 × 28"]]
    for row in (*rows, total):
        field = f"{row.receptive_field} × {row.receptive_field}" if row.receptive_field else "all"
        counts = [f"{row.parameters:,}", f"{row.multiply_adds:,}"]
        table.append([row.name, " × ".join(map(str, row.shape)), *counts, "" if row is total else field])
    print_table(header, table, right=range(1, 5))
