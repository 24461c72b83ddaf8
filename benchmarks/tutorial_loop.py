"""The tutorial's own way to train, as its page describes it, rewritten: what our `fit` is measured against.

torchvision's dataset, PIL transforms for each image in two worker processes, a hand-written loop. Credit:
aakashvardhan/s5-pytorch-tutorial (MIT licence). The network is ours, which is the same.
"""

import shutil
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from tqdm import tqdm

from mnist_lit.archives import FILES
from mnist_lit.network import MEAN, STD, TutorialCNN

BATCH, WORKERS = 512, 2


def loader(root: str, data_dir: str) -> DataLoader[Any]:
    """The tutorial's images and batches, unpacked into `root`."""
    pipeline = transforms.Compose(
        [
            transforms.RandomApply([transforms.CenterCrop(22)], p=0.1),
            transforms.Resize((28, 28)),
            transforms.RandomRotation((-15.0, 15.0), fill=0),
            transforms.ToTensor(),
            transforms.Normalize((MEAN,), (STD,)),
        ]
    )
    raw = Path(root, "MNIST/raw")
    raw.mkdir(parents=True)
    for name in FILES.values():
        shutil.copy(next(path for path in Path(data_dir).rglob(f"{name}.gz")), raw)
    dataset = datasets.MNIST(root, train=True, download=True, transform=pipeline)  # extracts what lies there
    return DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=WORKERS)


def train(data_dir: str, steps: int) -> float:
    """Images a second over `steps` steps of 512, from the first request of a batch to the end of the last step."""
    with tempfile.TemporaryDirectory() as root:
        batches = loader(root, data_dir)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = TutorialCNN().to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        model.train()
        right = images = 0
        start = end = time.perf_counter()
        for batch, labels in islice(tqdm(batches, disable=None), steps):
            batch, labels = batch.to(device), labels.to(device)
            optimizer.zero_grad()
            log_probs = model(batch)
            loss = F.nll_loss(log_probs, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            right += int((log_probs.argmax(dim=1) == labels).sum())
            images += len(labels)
            end = time.perf_counter()  # before the workers are stopped
        return images / (end - start)
