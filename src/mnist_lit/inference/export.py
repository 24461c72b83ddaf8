"""`mnist-lit export`: a checkpoint as one ONNX file that reads digits without torch.

uint8 images (B, 28, 28) in; probabilities (B, C) and outlier scores (B,) out. Calibration, threshold and the names of
the classes are in its metadata. Trains nothing.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_lit.errors import InputError
from mnist_lit.inference.reader import DigitReader
from mnist_lit.runs.folders import run_of_checkpoint
from mnist_lit.runs.locate import locate_model
from mnist_lit.system.atomic_file import write_atomic

__all__ = ["BATCH_SIZES", "TOLERANCE", "export_onnx", "max_difference", "onnx_bytes"]

TOLERANCE = 1e-5  # by which probabilities may differ from the checkpoint's
BATCH_SIZES = (1, 7, 512)


def export_onnx(model: str | Path | None, output: Path | None = None, data_dir: str | None = None) -> str:
    """Write, check, and say in one line what was written. Raises InputError where packages or files are missing."""
    from mnist_lit.evaluation.calibration import load_calibrated
    from mnist_lit.runs.checkpoint import METADATA_KEY, config_of

    source = locate_model(model)
    calibrated, labels, threshold, content = load_calibrated(source)
    run = run_of_checkpoint(source)
    if output and output.suffix != ".onnx":
        raise InputError(f"--output: expected a name that ends in .onnx, got {output}")
    target = output or (run if run.joinpath("config.yaml").is_file() else Path()) / "model.onnx"
    images = _images(config_of(content)["data"], data_dir)
    data = onnx_bytes(calibrated, labels, threshold, content[METADATA_KEY])
    aside = target.with_name(f".{target.stem}.checked.onnx")
    try:
        write_atomic(aside, data)
        worst = max_difference(DigitReader.load(source), DigitReader.load(aside), images)
        if not worst <= TOLERANCE:
            raise RuntimeError(f"the export differs from {source} by {worst:.1e}, so it was not written")
        aside.replace(target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)
    calibrates = "" if threshold < 1 else "; not calibrated, so it rejects nothing: see `mnist-lit calibrate`"
    return f"exported {source} to {target}: within {worst:.1e} of it on {len(images):,} images{calibrates}"


def onnx_bytes(calibrated: Any, labels: tuple[str, ...], threshold: float, provenance: Mapping[str, Any]) -> bytes:
    """A `Calibrated` network as an ONNX file. Raises InputError where the packages for that are missing."""
    import torch
    import yaml

    from mnist_lit.runs.checkpoint import portable_config

    try:
        import onnx
        import onnxscript  # noqa: F401  # torch's exporter wants it
    except ModuleNotFoundError as error:
        raise InputError(f"export needs {error.name}; pip install 'mnist-lit[export]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's own future
        program = torch.onnx.export(
            calibrated,
            (torch.zeros(2, 28, 28, dtype=torch.uint8),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=["probabilities", "outlier"],
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]  # where in this machine's folders each node came from
        part.doc_string = ""
    told = {
        "labels": json.dumps(labels),
        "threshold": repr(threshold),
        "temperature": repr(float(calibrated.temperature)),
        "config": portable_config(provenance["config"]),
        "dataset": str(yaml.safe_load(provenance["config"])["data"]["dataset"]),
        "data": provenance["data"],
        "versions": json.dumps(provenance["versions"]),
        "scores": json.dumps(provenance["scores"]),
    }
    onnx.helper.set_model_props(model, told)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()  # type: ignore[no-any-return]


def max_difference(one: DigitReader, other: DigitReader, images: NDArray[np.uint8]) -> float:
    """By how much two readers' probabilities and outlier scores differ at most, the other's in batches of 1, 7 and 512.

    Of the smaller batches a thousand images are looked at.
    """
    wanted = _all(one, images, max(BATCH_SIZES))
    return max(
        float(np.abs(wanted[:count] - _all(other, images[:count], size)).max())
        for size, count in ((size, len(images) if size == max(BATCH_SIZES) else 1000) for size in BATCH_SIZES)
    )


def _all(reader: DigitReader, images: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    parts = [reader.classify(images[start : start + size]) for start in range(0, len(images), size)]
    return np.concatenate([np.column_stack(part) for part in parts])


def _images(settings: dict[str, Any], data_dir: str | None) -> NDArray[np.uint8]:
    """The test images of the run's dataset, if it is here; else of the digits that need no files."""
    from mnist_lit.datamodule import MNISTDataModule

    try:
        data = MNISTDataModule(**settings | ({"data_dir": data_dir} if data_dir else {}))
        data.setup()
    except InputError:
        if data_dir:
            raise
        data = MNISTDataModule(dataset="digits", val_size=0)
        data.setup()
    assert data.digits
    images = data.digits.test_images if len(data.digits.test_images) else data.digits.train_images
    return images.numpy()
