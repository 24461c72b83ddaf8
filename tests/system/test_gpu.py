"""The command line makes GPUs repeat their bits unless told not to, and a run records what it used."""

import os

import pytest
import torch

from mnist_lit.system import gpu


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let torch believe in a GPU; collects the precisions that were set, and puts all settings back."""
    precisions: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", precisions.append)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", torch.backends.cudnn.deterministic)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setenv(gpu.WORKSPACE, "unset")
    monkeypatch.delenv(gpu.WORKSPACE)
    return precisions


def test_a_gpu_is_set_up_to_repeat_its_bits(settings: list[str]) -> None:
    gpu.set_up_gpu(exact=True)
    assert settings == ["high"]
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
    assert os.environ[gpu.WORKSPACE] == ":4096:8"


def test_maximum_speed_can_be_chosen(settings: list[str]) -> None:
    gpu.set_up_gpu(exact=False)
    assert settings == ["high"]
    assert not torch.backends.cudnn.deterministic
    assert gpu.WORKSPACE not in os.environ


def test_a_workspace_that_somebody_chose_stays(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpu.WORKSPACE, ":16:8")
    gpu.set_up_gpu(exact=True)
    assert os.environ[gpu.WORKSPACE] == ":16:8"


def test_without_a_gpu_nothing_is_set_or_recorded() -> None:
    before = torch.get_float32_matmul_precision()
    gpu.set_up_gpu(exact=True)
    assert torch.get_float32_matmul_precision() == before
    assert not torch.backends.cudnn.deterministic
    assert gpu.gpu_versions() == {}


def test_a_run_records_the_gpu_and_its_precision(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91000)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    gpu.set_up_gpu(exact=True)
    recorded = gpu.gpu_versions()
    assert recorded["gpu"] == "NVIDIA H200"
    assert (recorded["float32 products"], recorded["deterministic"]) == ("TensorFloat-32", "yes")
    torch.backends.cudnn.benchmark = True  # by trainer.benchmark
    assert gpu.gpu_versions()["deterministic"] == "no"
    gpu.set_up_gpu(exact=False)
    assert gpu.gpu_versions()["deterministic"] == "no"
