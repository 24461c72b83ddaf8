"""Run an exported ONNX model with onnxruntime, without torch; `checkpoint_model` does the same for a checkpoint."""

import json
import os
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_lit.errors import InputError, require_class_names
from mnist_lit.imaging.mnist_format import IMAGE_SIZE
from mnist_lit.inference.onnx_file import (
    CHECKSUM_BYTES,
    MAX_BYTES,
    check_end,
    check_file,
    convolution_outputs,
    with_outputs,
)
from mnist_lit.system.regular_file import read_regular_file

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4")  # of the tutorial's network
TRIAL_MIB, TRIAL_SECONDS = 256, 2  # limits on classifying one image; the weights come on top
LAST_OPERATOR_SECONDS = 10  # how long to wait for the operator that runs when the time is up

Images = NDArray[np.uint8]  # (B, 28, 28), 0 = paper
Scores = tuple[NDArray[np.float32], NDArray[np.float32]]  # probabilities (B, C) and outlier scores (B,)


class OnnxModel:
    """A model written by `mnist-lit export`. Raises InputError for any other file and if onnxruntime is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            import onnxruntime  # noqa: F401
        except ModuleNotFoundError as error:
            raise InputError("an exported model needs onnxruntime; pip install onnxruntime") from error
        try:
            if (size := path.stat().st_size) > MAX_BYTES:
                raise InputError(f"expected at most {MAX_BYTES:,} bytes")
            check_end(read_regular_file(path, start=max(size - CHECKSUM_BYTES, 0)))  # before reading a gigabyte
            data = read_regular_file(path)
            check_file(data)
            trial = _session(data, limited=True)
            metadata = trial.get_modelmeta().custom_metadata_map
            self.labels = require_class_names(json.loads(metadata["labels"]))
            self.threshold = float(metadata["threshold"])
            self.dataset = metadata.get("dataset", "")
            scores = _classify_blank(trial)
            fits = [array.shape for array in scores] == [(1, len(self.labels)), (1,)]
            if not (fits and np.isfinite(np.column_stack(scores)).all() and 0 <= self.threshold <= 1):
                raise InputError("its outputs do not match its metadata, or are not finite")
            del trial  # and its copy of the weights
            self.session = _session(data)
            tensors = convolution_outputs(data)
            weights = [f"network.{name}.weight" for name in CONVOLUTIONS]
            self._responses = [tensors[name] for name in weights] if [*tensors] == weights else []
            self._data = data if self._responses else b""
        except Exception as error:  # onnxruntime raises a different class for each kind of damage
            reason = str(error) if isinstance(error, InputError) else type(error).__name__
            raise InputError(f"{path} is not a model exported by mnist-lit: {reason}") from error

    def __call__(self, images: Images) -> Scores:
        """uint8 (B, 28, 28) → probabilities (B, C) and outlier scores (B,)."""
        if not len(images):  # onnxruntime 1.30 divides by the number of images and kills the process
            return np.zeros((0, len(self.labels)), np.float32), np.zeros(0, np.float32)
        probabilities, outliers = self.session.run(None, {"images": images})
        return probabilities, outliers

    def __reduce__(self) -> tuple[type["OnnxModel"], tuple[Path]]:
        """Copies and pickles load the file again: onnxruntime's sessions cannot be pickled."""
        return type(self), (self.path,)

    def convolution_session(self) -> Any:
        """A session that returns the responses of the tutorial network's four convolutions, before their ReLUs, each
        (B, C, H, W); None for any other network. Separate, because more outputs make reading slower."""
        return _session(with_outputs(self._data, self._responses)) if self._responses else None


def _session(data: bytes, *, limited: bool = False) -> Any:
    """Load a checked file. limited: running it raises an error instead of taking more than TRIAL_MIB."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # fatal errors only
    options.intra_op_num_threads = 1  # one 28×28 image is too little work to split
    entries = {
        # A hostile model can name any file on this machine as its weights ("external data"). `check_file` refuses it;
        # with /dev/null as the folder for such files, onnxruntime does not find any either.
        "session.model_external_initializers_file_folder_path": os.devnull,
        # Constant folding runs operators while the file is loaded, without a limit. The exporter has done it already.
        "optimization.disable_specified_optimizers": "ConstantFolding",
    }
    if limited:
        memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
        arena = ort.OrtArenaCfg({"max_mem": TRIAL_MIB << 20, "arena_extend_strategy": 1})  # 1: no more than requested
        with suppress(RuntimeError):  # older versions keep the first one that a process registers
            ort.create_and_register_allocator(memory, arena)
        entries["session.use_env_allocators"] = "1"
        entries["session.use_device_allocator_for_initializers"] = "1"  # older versions would count the weights
    for entry in entries.items():
        options.add_session_config_entry(*entry)
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _classify_blank(session: Any) -> Scores:
    """The scores of a blank image. Raises InputError if they take too long. Runs in a thread, since Python cannot
    interrupt an operator: a run that takes too long ends after the current one."""
    import onnxruntime

    options, scores = onnxruntime.RunOptions(), Future[Scores]()

    def run() -> None:
        try:
            scores.set_result(session.run(None, {"images": np.zeros((1, IMAGE_SIZE, IMAGE_SIZE), np.uint8)}, options))
        except Exception as error:
            scores.set_exception(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        return scores.result(TRIAL_SECONDS)
    except Exception as error:
        options.terminate = True
        thread.join(LAST_OPERATOR_SECONDS)  # a run that ends while Python exits would abort the process
        limits = f"{TRIAL_MIB} MiB and {TRIAL_SECONDS} seconds"
        raise InputError(f"it cannot classify an image within {limits} ({type(error).__name__})") from error
