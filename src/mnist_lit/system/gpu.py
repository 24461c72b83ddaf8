"""Deterministic settings for NVIDIA GPUs, and the GPU details that a run records.

By default cuDNN may choose convolutions that add in any order, and cuBLAS a workspace that differs between streams:
the same training then ends with different bits each time. TensorFloat-32 rounds the factors of a product to 11 bits and
is several times as fast; cuDNN's convolutions use it anyway.
"""

import os

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def set_up_gpu(*, exact: bool) -> None:
    """Use TensorFloat-32, and the same algorithms every time if `exact`. Must come before the first use of CUDA."""
    if not torch.cuda.is_available():
        return
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.deterministic = exact
    if exact:
        torch.backends.cudnn.benchmark = False  # it picks algorithms by their time
        os.environ.setdefault(WORKSPACE, ":4096:8")


def gpu_versions() -> dict[str, str]:
    """The GPU and what determines its bits, for a run's records; empty if this process has not used one."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]
        return {}
    exact = torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark and WORKSPACE in os.environ
    return {
        "gpu": torch.cuda.get_device_name(),
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        "float32 products": "float32" if torch.get_float32_matmul_precision() == "highest" else "TensorFloat-32",
        "deterministic": "yes" if exact else "no",
    }
