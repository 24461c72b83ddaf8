"""The tutorial's own training loop, rewritten from its page: to compare with `mnist-lit fit`.

torchvision's dataset, PIL transforms per image in two worker processes, a hand-written loop. Credit:
aakashvardhan/s5-pytorch-tutorial (MIT license). The network is ours, which is identical.
"""

import itertools
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms
from tqdm import tqdm

from mnist_lit.data.download import IDX_FILES
from mnist_lit.model import MEAN, STD, TutorialCNN

BATCH, WORKERS = 512, 2


def loader(root: str, data_dir: str, indices: Sequence[int] | None = None) -> DataLoader[Any]:
    """The tutorial's batches of the training images, or of those at `indices`; unpacks the archives into `root`."""
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
    for name in IDX_FILES.values():
        shutil.copy(next(path for path in Path(data_dir).rglob(f"{name}.gz")), raw)
    dataset: Any = datasets.MNIST(root, train=True, download=True, transform=pipeline)  # unpacks, no network
    if indices is not None:
        dataset = Subset(dataset, indices)
    return DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=WORKERS)


def train(data_dir: str, steps: int, indices: Sequence[int] | None = None) -> tuple[float, TutorialCNN]:
    """Train for `steps` steps of 512 images, over as many epochs as that takes.

    Returns images per second, from the request of the first batch to the end of the last step, and the network.
    """
    with tempfile.TemporaryDirectory() as root:
        epochs = itertools.chain.from_iterable(itertools.repeat(loader(root, data_dir, indices)))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = TutorialCNN().to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        model.train()
        right = images = 0
        start = end = time.perf_counter()
        for batch, labels in tqdm(itertools.islice(epochs, steps), total=steps, disable=None):
            batch, labels = batch.to(device), labels.to(device)
            optimizer.zero_grad()
            log_probs = model(batch)
            loss = F.nll_loss(log_probs, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            right += int((log_probs.argmax(dim=1) == labels).sum())
            images += len(labels)
            end = time.perf_counter()  # stopping the workers does not count
        return images / (end - start), model
