"""`mnist-lit export`: write a checkpoint as one ONNX file that reads digits without torch."""

from pathlib import Path

from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.cli.network import build_network
from mnist_lit.runs.locate import MODEL_NAMES, PRETRAINED
from mnist_lit.system.console import say


def main(command: str, args: list[str]) -> None:
    """Export a checkpoint and print where it went."""
    description = "Write a checkpoint as one ONNX file and check it against the checkpoint on real images."
    parser = CommandParser(command, description)
    model = f"a checkpoint, a run, {MODEL_NAMES} (default: the newest run's best, else {PRETRAINED})"
    parser.add_model_argument(model)
    output = "the file to write (default: model.onnx in the run of a best checkpoint, see docs/export.md for others)"
    parser.add_argument("--output", type=Path, metavar="FILE.onnx", help=output)
    parser.add_data_dir_argument()
    parser.add_network_argument()
    options = parser.parse_args(args)
    from mnist_lit.inference.export import export_onnx  # imports torch, which --help does not need

    say(export_onnx(options.model, options.output, options.data_dir, build_network(options.network)))
