"""An exported ONNX file as a model that reads digits, run by onnxruntime without torch."""

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_lit.errors import InputError
from mnist_lit.imaging.mnist_format import IMAGE_SIZE

__all__ = ["OnnxModel"]

Images = NDArray[np.uint8]


class OnnxModel:
    """A model that `mnist-lit export` wrote. Only this one file is read: external data is refused."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise InputError("an exported model needs onnxruntime; pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1  # a digit is too small to share
        # A file that asks for others finds none: not beside it, not here, nowhere.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        try:
            self.session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
            told = self.session.get_modelmeta().custom_metadata_map
            self.labels = tuple(str(label) for label in json.loads(told["labels"]))
            self.threshold = float(told["threshold"])
            self.dataset = told.get("dataset", "")
            tried = self(np.zeros((1, IMAGE_SIZE, IMAGE_SIZE), np.uint8))
            if [part.shape for part in tried] != [(1, len(self.labels)), (1,)] or not 0 <= self.threshold <= 1:
                raise ValueError
            if not all(np.isfinite(part).all() for part in tried):
                raise ValueError
        except Exception as error:  # onnxruntime has a class of error for each kind of damage
            raise InputError(f"{path} is no model that mnist-lit exported ({type(error).__name__})") from error

    def __call__(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """uint8 (B, 28, 28) → probabilities (B, C) and outlier scores (B,)."""
        probabilities, outliers = self.session.run(None, {"images": images})
        return probabilities, outliers
