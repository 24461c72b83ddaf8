"""The least a training step can cost: the yardstick for `mnist-lit fit`, not a way to train.

Standardized batches are already on the device. A step is forward, loss, backward and optimizer; nothing else runs.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_lit.data.datasets import load_dataset
from mnist_lit.model import TutorialCNN, standardize
from mnist_lit.system.malloc import keep_freed_memory

BATCH, NUM_BATCHES = 512, 16  # images per step; prepared batches, used in turn
WARMUP_STEPS = 3  # not timed; the other variants' first steps are


def train(data_dir: str, steps: int, *, captured: bool = False) -> float:
    """Train for `steps` steps of 512 images; returns images per second. captured: replay a CUDA graph of the step."""
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = load_dataset("mnist", data_dir)
    batches = [
        (
            standardize(data.train_images[start : start + BATCH]).to(device, memory_format=torch.channels_last),
            data.train_labels[start : start + BATCH].to(device),
        )
        for start in range(0, NUM_BATCHES * BATCH, BATCH)
    ]
    model = TutorialCNN().to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def take_step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        F.nll_loss(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    start, run = 0.0, take_step
    for step in range(WARMUP_STEPS + steps):
        if step == WARMUP_STEPS:
            run = _capture(take_step, *batches[0]) if captured else take_step
            _synchronize(device)
            start = time.perf_counter()
        run(*batches[step % NUM_BATCHES])
    _synchronize(device)
    return steps * BATCH / (time.perf_counter() - start)


def _capture(take_step: Callable[[Tensor, Tensor], None], images: Tensor, labels: Tensor) -> Any:
    """The step as one CUDA graph: a function that copies a batch and replays it."""
    static_images, static_labels = images.clone(), labels.clone()
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP_STEPS):
            take_step(static_images, static_labels)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph, stream=stream):
        take_step(static_images, static_labels)

    def replay(images: Tensor, labels: Tensor) -> None:
        static_images.copy_(images)
        static_labels.copy_(labels)
        graph.replay()

    return replay


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
