"""The least that a training step can be: what `mnist-lit fit` is measured against, not a way to train.

Standardized batches lie ready on the device; forward, loss, backward, optimizer step, and nothing else.
"""

import time

import torch
import torch.nn.functional as F

from mnist_lit.data.datasets import load_dataset
from mnist_lit.model import TutorialCNN, standardize
from mnist_lit.system.malloc import keep_freed_memory

BATCH, READY = 512, 16  # images a step, and batches that lie ready
WARM_UP = 3  # steps before the clock starts, which the other contestants pay for


def train(data_dir: str, steps: int) -> float:
    """Images a second over `steps` steps of 512."""
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = load_dataset("mnist", data_dir)
    starts = range(0, READY * BATCH, BATCH)
    batches = [
        (
            standardize(data.train_images[start : start + BATCH]).to(device, memory_format=torch.channels_last),
            data.train_labels[start : start + BATCH].to(device),
        )
        for start in starts
    ]
    model = TutorialCNN().to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    start = 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            _wait(device)
            start = time.perf_counter()
        images, labels = batches[step % READY]
        optimizer.zero_grad()
        F.nll_loss(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    _wait(device)
    return steps * BATCH / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
