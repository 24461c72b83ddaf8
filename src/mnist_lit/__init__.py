"""mnist-lit: the classic 4-convolution MNIST network as a PyTorch Lightning project.

The public names below are imported on first use, so that `import mnist_lit` and `mnist-lit --help` stay fast and free
of torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_lit.datamodule import MNISTDataModule
    from mnist_lit.inference.reader import DigitReader
    from mnist_lit.model import TutorialCNN
    from mnist_lit.module import MNISTModule

__all__ = ["DigitReader", "MNISTDataModule", "MNISTModule", "TutorialCNN", "__version__"]

__version__ = "0.1.0"

_MODULES = {
    "DigitReader": "inference.reader",
    "MNISTDataModule": "datamodule",
    "MNISTModule": "module",
    "TutorialCNN": "model",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"mnist_lit.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, for completion."""
    return __all__
