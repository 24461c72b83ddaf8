"""The tutorial's recipe as a first version with Lightning would look: to compare with `mnist-lit fit`.

Lightning's Trainer with its defaults, torchvision's dataset and transforms, a DataLoader with two workers.
"""

import tempfile
import time
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_lit.model import TutorialCNN
from tutorial_loop import BATCH, loader


class PlainModule(pl.LightningModule):
    """The network, its loss and accuracy, and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.model = TutorialCNN()
        self.seconds = 0.0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the mean loss; log it and the accuracy."""
        images, labels = batch
        log_probs = self.model(images)
        loss = F.nll_loss(log_probs, labels)
        self.log("train/loss", loss)
        self.log("train/acc", (log_probs.argmax(dim=1) == labels).float().mean(), on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The tutorial's SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)

    def on_train_epoch_start(self) -> None:
        """Start the clock before the first batch is requested."""
        self.start = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Read the clock after every step."""
        self.seconds = time.perf_counter() - self.start


def train(data_dir: str, steps: int) -> float:
    """Train for `steps` steps of 512 images, at most an epoch; returns images per second."""
    with tempfile.TemporaryDirectory() as root:
        module, batches = PlainModule(), loader(root, data_dir)
        trainer = pl.Trainer(max_epochs=1, limit_train_batches=steps, default_root_dir=root, enable_progress_bar=False)
        trainer.fit(module, batches)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            module.seconds = time.perf_counter() - module.start
        return min(steps * BATCH, len(batches.dataset)) / module.seconds  # type: ignore[arg-type]
