"""The least a training step can cost: the yardstick for `mnist-lit fit`, not a way to train.

Standardized batches are already on the device. A step is forward, loss, backward and optimizer; nothing else runs.
"""

import time

import torch
import torch.nn.functional as F

from mnist_lit.data.datasets import load_dataset
from mnist_lit.model import TutorialCNN, standardize
from mnist_lit.system.malloc import keep_freed_memory

BATCH, NUM_BATCHES = 512, 16  # images per step; prepared batches, used in turn
WARMUP_STEPS = 3  # not timed; the other contestants' first steps are


def train(data_dir: str, steps: int) -> float:
    """Train for `steps` steps of 512 images; returns images per second."""
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
    start = 0.0
    for step in range(WARMUP_STEPS + steps):
        if step == WARMUP_STEPS:
            _synchronize(device)
            start = time.perf_counter()
        images, labels = batches[step % NUM_BATCHES]
        optimizer.zero_grad()
        F.nll_loss(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    _synchronize(device)
    return steps * BATCH / (time.perf_counter() - start)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
