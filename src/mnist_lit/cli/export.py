"""`mnist-lit export`: a checkpoint as one ONNX file that reads digits without torch.

uint8 images (B, 28, 28) in; probabilities (B, C) and outlier scores (B,) out. Calibration, threshold and the names of
the classes are in its metadata. Trains nothing.
"""

from pathlib import Path

from mnist_lit.inference.export import export_onnx
from mnist_lit.system.arguments import CommandParser

__all__ = ["main"]


def main(command: str, args: list[str]) -> None:
    """Export, read the file back, compare, and only then put it in its place."""
    parser = CommandParser(
        command,
        "Write a checkpoint as one ONNX file, and check it against the checkpoint on real images.",
    )
    where = "a checkpoint, a run, latest or pretrained (default: the newest run's best, else the shipped one)"
    parser.add_argument("--model", "--ckpt_path", dest="model", help=where)
    target = "where to write it (default: model.onnx in the checkpoint's run, or here)"
    parser.add_argument("--output", type=Path, help=target)
    parser.add_argument("--data_dir", help="the folder of the dataset's files (default: the run's)")
    options = parser.parse_args(args)
    print(export_onnx(options.model, options.output, options.data_dir))
