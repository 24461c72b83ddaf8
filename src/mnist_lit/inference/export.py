"""Export a checkpoint as one ONNX file that onnxruntime runs without torch. Input: uint8 images (B, 28, 28). Outputs:
calibrated probabilities (B, C) and outlier scores (B,). Class names, rejection threshold and recipe are metadata."""

import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from mnist_lit.data.datasets import load_dataset
from mnist_lit.errors import InputError, require
from mnist_lit.evaluation.calibration import LoadedModel, load_calibrated
from mnist_lit.evaluation.checkpoint_data import datamodule_from_checkpoint
from mnist_lit.inference.onnx_file import check_file, with_checksum
from mnist_lit.inference.onnx_model import Images
from mnist_lit.inference.reader import DigitReader
from mnist_lit.runs.folders import CONFIG_YAML, export_name, run_of_checkpoint
from mnist_lit.runs.locate import locate_model
from mnist_lit.runs.metadata import Metadata
from mnist_lit.runs.sharing import portable_config
from mnist_lit.system.atomic_file import report_write_errors, write_atomic
from mnist_lit.system.yaml_file import load_yaml

TOLERANCE = 1e-5  # largest allowed difference from the checkpoint's probabilities and outlier scores
BATCH_SIZES = (1, 7, 512)  # the exported file's batch size is dynamic: compare small, odd and large batches
SMALL_BATCH_IMAGES = 1000  # compared in all but the largest batch size, to save time


def export_onnx(
    model: str | Path | None,
    output: Path | None = None,
    data_dir: str | None = None,
    network: torch.nn.Module | None = None,
) -> str:
    """Export a checkpoint, compare the export with it, then write the file; returns a one-line summary.
    network: one of your own, if the checkpoint was trained with it. Raises InputError if packages or files are
    missing or the target cannot be written."""
    require("--output", output and output.name, "a name that ends in .onnx", not output or output.suffix == ".onnx")
    source = locate_model(model)
    loaded = load_calibrated(source, network)
    run = run_of_checkpoint(source)
    in_run = run.joinpath(CONFIG_YAML).is_file()
    target = output or (run / export_name(source) if in_run else Path(f"{source.stem}.onnx"))
    try:
        dataset = datamodule_from_checkpoint(loaded.content, data_dir, download=False).in_memory
    except InputError:
        if data_dir:
            raise
        dataset = load_dataset("digits", "")  # the run's files are not on this machine
    images = (dataset.test_images if len(dataset.test_images) else dataset.train_images).numpy()
    data = onnx_bytes(loaded)
    with TemporaryDirectory() as folder:
        unchecked = Path(folder, target.name)
        unchecked.write_bytes(data)
        readers = DigitReader.load(source, network=network), DigitReader.load(unchecked)
        difference = max_difference(*readers, images)
    if not difference <= TOLERANCE:
        raise RuntimeError(f"the export differs from {source} by {difference:.1e} and was not written")
    with report_write_errors(target):
        write_atomic(target, data)
    note = "" if loaded.threshold < 1 else "; not calibrated, so no image is rejected: see `mnist-lit calibrate`"
    return f"exported {source} to {target}: within {difference:.1e} of it on {len(images):,} images{note}"


def onnx_bytes(model: LoadedModel) -> bytes:
    """A checkpoint's calibrated network as an ONNX file. Raises InputError if packages are missing or if `check_file`
    refuses the network."""
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch.onnx.export requires it
    except ModuleNotFoundError as error:
        raise InputError(f"export needs {error.name}; pip install 'mnist-lit[export]'") from error
    images, shapes = (torch.zeros(2, 28, 28, dtype=torch.uint8),), ({0: torch.export.Dim("batch")},)
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["probabilities", "outlier"]}
    with warnings.catch_warnings(action="ignore"):  # deprecations inside the exporter
        program = torch.onnx.export(model.network, images, dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
    assert program is not None
    proto = program.model_proto
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del part.metadata_props[:]  # stack traces, which name folders of this machine
        part.doc_string = ""
    metadata = Metadata.of(model.content)
    metadata_props = {
        "labels": json.dumps(model.labels),
        "threshold": repr(model.threshold),
        "temperature": repr(float(model.network.temperature)),
        "config": portable_config(metadata.config),
        "dataset": str(load_yaml(metadata.config).get("data", {}).get("dataset", "")),
        "data": metadata.data,
        "versions": json.dumps(metadata.versions),
        "scores": json.dumps(metadata.scores),
    }
    onnx.helper.set_model_props(proto, metadata_props)
    onnx.checker.check_model(proto, full_check=True)
    data = with_checksum(proto.SerializeToString())
    try:
        check_file(data)
    except InputError as error:
        raise InputError(f"cannot export this network to ONNX: {error}") from error
    return data


def max_difference(reference: DigitReader, exported: DigitReader, images: Images) -> float:
    """The largest absolute difference of probabilities and outlier scores, over all of BATCH_SIZES; NaN if any is."""
    expected = np.column_stack(reference.classify(images, max(BATCH_SIZES)))  # (N, C + 1)
    differences = []
    for batch_size in BATCH_SIZES:
        count = len(images) if batch_size == max(BATCH_SIZES) else SMALL_BATCH_IMAGES
        scores = np.column_stack(exported.classify(images[:count], batch_size))
        differences.append(np.abs(expected[:count] - scores).max())
    return float(np.max(differences))
