"""TensorBoard's images: training images as the network sees them, the confusion matrix, the worst mistakes."""

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from mnist_lit.callbacks.tensorboard import add_image
from mnist_lit.data.in_memory import classes_of
from mnist_lit.data.loaders import Batch
from mnist_lit.evaluation import figures
from mnist_lit.runs.start import RunStart
from mnist_lit.system.distributed import all_gather_objects


class TensorBoardFigures(Callback):
    """Draw the first training images, and after each validation the confusion matrix and the worst mistakes."""

    GRID, WORST = 4, 3  # rows and columns of training images and of mistakes: few, so that captions can be read

    def __init__(self, start: RunStart | None = None) -> None:
        self.start = start or RunStart()
        self._drawn = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, *_: Any) -> None:
        """Draw the first images of the fit, augmented."""
        if not self._drawn and not (self.start.continues and trainer.global_step):
            batch, classes = Batch.of(batch), classes_of(trainer, pl_module.hparams["num_classes"])
            labels = [classes[label] for label in batch.labels[: self.GRID**2].tolist()]
            grid = figures.gallery(batch.images[: len(labels)].cpu().numpy(), labels, columns=self.GRID)
            add_image(trainer, "training images", grid)
        self._drawn = True

    def on_validation_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self._mistakes: list[tuple[Tensor, ...]] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Keep the mistakes with the highest loss, without waiting for the device."""
        batch, predicted = Batch.of(batch, batch_idx=batch_idx), outputs.argmax(dim=1)
        loss = -outputs.gather(1, batch.labels[:, None])[:, 0].float()
        loss = torch.where(predicted == batch.labels, -1.0, loss)
        worst = loss.topk(min(self.WORST**2, len(loss))).indices
        probs = outputs.gather(1, predicted[:, None])[:, 0].float().exp()
        columns = (loss, batch.labels, predicted, probs, batch.indices, batch.images)
        self._mistakes.append(tuple(column[worst] for column in columns))

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draw the mistakes of all processes together."""
        if trainer.sanity_checking or not self._mistakes:
            return
        own = tuple(torch.cat(column).cpu() for column in zip(*self._mistakes, strict=True))
        loss, labels, predicted, probs, indices, images = map(torch.cat, zip(*all_gather_objects(own), strict=True))
        if not trainer.is_global_zero:
            return
        order = [n for n in loss.argsort(descending=True, stable=True)[: self.WORST**2].tolist() if loss[n] >= 0]
        classes = classes_of(trainer, pl_module.hparams["num_classes"])
        separator = "\n" if max(map(len, classes)) > 2 else ", "
        captions = [
            f"true {classes[labels[n]]}{separator}pred {classes[predicted[n]]}\n{float(probs[n]):.1%}  #{indices[n]}"
            for n in order
        ]
        worst = figures.gallery(images[order].numpy(), captions, columns=self.WORST)
        add_image(trainer, "validation/worst mistakes", worst)
        confusion = pl_module.confusion.long().cpu().numpy()
        add_image(trainer, "validation/confusion matrix", figures.confusion_matrix(confusion, classes))
