"""Run an exported ONNX model with onnxruntime, without torch; `checkpoint_model` does the same for a checkpoint."""

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_lit.errors import InputError
from mnist_lit.imaging.mnist_format import IMAGE_SIZE

ONNX_FILE = "model.onnx"  # in a run's folder and beside the shipped checkpoint

Images = NDArray[np.uint8]  # (B, 28, 28), 0 = paper
Scores = tuple[NDArray[np.float32], NDArray[np.float32]]  # probabilities (B, C) and outlier scores (B,)


class OnnxModel:
    """A model written by `mnist-lit export`. Raises InputError for any other file and if onnxruntime is missing."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise InputError("an exported model needs onnxruntime; pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal errors only
        options.intra_op_num_threads = 1  # one 28×28 image is too little work to split
        # A hostile model can name any file on this machine as its weights ("external data"). Loading from bytes with
        # /dev/null as the folder for such files makes every lookup fail.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        try:
            self.session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
            metadata = self.session.get_modelmeta().custom_metadata_map
            self.labels = tuple(str(label) for label in json.loads(metadata["labels"]))
            self.threshold = float(metadata["threshold"])
            self.dataset = metadata.get("dataset", "")
            scores = self(np.zeros((1, IMAGE_SIZE, IMAGE_SIZE), np.uint8))
            fits = [array.shape for array in scores] == [(1, len(self.labels)), (1,)]
            if not (fits and np.isfinite(np.column_stack(scores)).all() and 0 <= self.threshold <= 1):
                raise ValueError
        except Exception as error:  # onnxruntime raises a different class for each kind of damage
            raise InputError(f"{path} is not a model exported by mnist-lit ({type(error).__name__})") from error

    def __call__(self, images: Images) -> Scores:
        """uint8 (B, 28, 28) → probabilities (B, C) and outlier scores (B,)."""
        if not len(images):  # onnxruntime 1.30 divides by the number of images and kills the process
            return np.zeros((0, len(self.labels)), np.float32), np.zeros(0, np.float32)
        probabilities, outliers = self.session.run(None, {"images": images})
        return probabilities, outliers
