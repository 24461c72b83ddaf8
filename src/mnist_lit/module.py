"""The LightningModule: loss, metrics, optimizer, weight averaging. Opens no file but the one it starts from.

One function scores every split; sums are divided by counts of images, never means averaged over batches.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)

from mnist_lit.data.keyed_random import DROPOUT, uniform
from mnist_lit.data.loaders import Batch
from mnist_lit.errors import InputError
from mnist_lit.metrics import MeanNLL
from mnist_lit.model import FEATURES, TutorialCNN, he_init, standardize
from mnist_lit.optim import OptimizerName, ScheduleName, build_optimizer, lr_factor, perturbed_weights
from mnist_lit.runs.checkpoint import load_checkpoint, network_of
from mnist_lit.runs.locate import locate_model
from mnist_lit.system.distributed import all_gather_objects, rank_and_world_size

__all__ = ["BestValidation", "MNISTModule"]


class BestValidation(NamedTuple):
    """The best validation so far: the higher accuracy, and of equals the lower loss."""

    acc: float
    loss: float
    epoch: int  # from 1 on


class MNISTModule(pl.LightningModule):
    """The tutorial's network with what trains and scores it.

    Args:
        optimizer: `sgd`, `adamw`, or `muon` (with AdamW where Muon does not apply).
        lr: learning rate at its height.
        momentum: of SGD and Muon.
        nesterov: SGD looks ahead.
        weight_decay: of every optimizer; decoupled but for SGD.
        aux_lr: learning rate of the AdamW beside Muon.
        schedule: `constant`, `step`, `cosine` or `linear`.
        warmup: share of all steps over which the rate first rises.
        step_size: epochs between the steps of `step`.
        gamma: what each step of `step` multiplies by.
        ema_decay: above 0, the weights' exponential moving average is what is evaluated, saved beside the weights.
        init: `default` is torch's, `he` is Kaiming-normal.
        init_from: a trained model to start from in the place of random weights: a checkpoint, a run, `latest` or
            `pretrained`. fc2 is taken over where the number of classes is the same. A run that goes on ignores it.
        dropout: share of the convolutions' features that a training image loses before fc1.
        sam_rho: above 0, each step follows the gradient found this far uphill (SAM), in place of the one here, which
            takes twice as long.
        label_smoothing: share of each label that is spread evenly over all classes, in training's objective alone:
            every loss that is logged is the plain NLL.
        num_classes: length of the output; the command line sets it from the data.
        seed: of the initial weights and the dropout; the command line sets it from `seed_everything`.

    `forward` takes uint8 images (B, 28, 28) and gives log-probabilities (B, num_classes).
    """

    def __init__(
        self,
        optimizer: OptimizerName = "sgd",
        lr: float = 0.05,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        aux_lr: float = 0.002,
        schedule: ScheduleName = "linear",
        warmup: float = 0.0,
        step_size: int = 15,
        gamma: float = 0.1,
        ema_decay: float = 0.0,
        init: Literal["default", "he"] = "default",
        init_from: str = "",
        dropout: float = 0.0,
        sam_rho: float = 0.0,
        label_smoothing: float = 0.0,
        num_classes: int = 10,
        seed: int = 0,
        *,
        nesterov: bool = False,
    ) -> None:
        super().__init__()
        _check("lr", lr, lr > 0 and math.isfinite(lr), "above 0")
        _check("aux_lr", aux_lr, aux_lr > 0 and math.isfinite(aux_lr), "above 0")
        _check("momentum", momentum, 0 <= momentum < 1, "in [0, 1)")
        _check("momentum", momentum, momentum > 0 or not nesterov, "above 0 with nesterov")
        _check("weight_decay", weight_decay, weight_decay >= 0, "0 or more")
        _check("warmup", warmup, 0 <= warmup <= 1, "in [0, 1]")
        _check("step_size", step_size, step_size >= 1, "1 or more")
        _check("gamma", gamma, gamma > 0, "above 0")
        _check("ema_decay", ema_decay, 0 <= ema_decay < 1, "in [0, 1)")
        _check("dropout", dropout, 0 <= dropout < 1, "in [0, 1)")
        _check("sam_rho", sam_rho, sam_rho >= 0 and math.isfinite(sam_rho), "0 or more")
        _check("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "in [0, 1)")
        _check("num_classes", num_classes, num_classes >= 2, "2 or more")
        self.save_hyperparameters(logger=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = TutorialCNN(num_classes)
            if init == "he":
                he_init(network)
        self.network = network.to(memory_format=torch.channels_last)
        self.ema = copy.deepcopy(self.network).requires_grad_(False) if ema_decay else None
        scores: dict[str, Metric | MetricCollection] = {
            "loss": MeanNLL(),
            "acc": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
        }
        details: dict[str, Metric | MetricCollection] = {
            "class_acc": MulticlassAccuracy(num_classes, average=None, validate_args=False),
            "ece": MulticlassCalibrationError(num_classes, validate_args=False),
            "confusion": MulticlassConfusionMatrix(num_classes, validate_args=False),
        }
        metrics = MetricCollection({**scores, **details})
        # Clones: a metric in two collections would count both splits.
        self.train_metrics = MetricCollection(scores).clone(prefix="train/")
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")
        self.confusion: Tensor | None = None  # (C, C) counts of the newest evaluation: rows are true, columns predicted
        self.has_trained = False  # whether a step was taken since the module was made
        self.best: BestValidation | None = None
        self._uphill = False  # whether a step computes its gradient a second time
        self._counted = False  # whether any process has images in `train_metrics`

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities (B, num_classes) of uint8 images (B, 28, 28), by the averaged weights where there are."""
        network: nn.Module = self.network if self.ema is None else self.ema
        return _run(network, images, None)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """This process's part of the mean loss over the images of the optimizer's step.

        DDP averages gradients over processes, and Lightning over accumulated batches, so the part is scaled by their
        numbers: the gradient is that of one process with all the step's images at once, however they are divided.
        """
        mask = self._dropout_mask(batch) if self.hparams["dropout"] else None
        log_probs = _run(self.network, batch.images, mask)
        nll = F.nll_loss(log_probs, batch.labels, reduction="sum")
        if not self._uphill:
            self._count(log_probs, batch, self.train_metrics)
            self._counted = True
            if self._logs_step():
                self._loss_step = self.trainer.strategy.reduce(nll.detach() / batch.size, reduce_op="sum")
                self.log("train/loss_step", self._loss_step, batch_size=batch.size, prog_bar=True, logger=False)
        spread = self.hparams["label_smoothing"]
        loss = (1 - spread) * nll - spread * log_probs.mean(dim=1).sum() if spread else nll
        return loss * (self.trainer.world_size / self._images_per_step(batch, batch_idx))

    def on_train_epoch_end(self) -> None:
        """Log the epoch's scores, as the images were seen: warped, and by weights still moving."""
        if self._counted:  # not where a run goes on after they were logged; the same on every process
            self._log_scores(self.train_metrics)
            self._counted = False

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log-probabilities of a batch, counted into validation's scores."""
        return self._evaluate(batch, self.val_metrics)

    def on_validation_epoch_start(self) -> None:
        """Start from zero, also after an evaluation that was interrupted."""
        self.val_metrics.reset()

    def on_validation_epoch_end(self) -> None:
        """Log validation's scores, and remember the best."""
        scores = self._log_scores(self.val_metrics)
        if self.trainer.sanity_checking:
            return
        now = BestValidation(float(scores["val/acc"]), float(scores["val/loss"]), self.trainer.current_epoch + 1)
        if self.best is None or (now.acc, -now.loss) > (self.best.acc, -self.best.loss):
            self.best = now
        self.write({"best/val_acc": self.best.acc}, self._last_step())

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log-probabilities of a batch, counted into the test's scores."""
        return self._evaluate(batch, self.test_metrics)

    def on_test_epoch_start(self) -> None:
        """Start from zero, also after an evaluation that was interrupted."""
        self.test_metrics.reset()

    def on_test_epoch_end(self) -> None:
        """Log the test's scores."""
        self._log_scores(self.test_metrics)

    def start_from(self, model: str) -> None:
        """Take over the weights of a trained model, see `init_from`. Raises InputError where it has none that fit."""
        trained = network_of(load_checkpoint(locate_model(model))).state_dict()
        if trained["fc2.bias"].shape != self.network.fc2.bias.shape:
            trained = {name: weights for name, weights in trained.items() if not name.startswith("fc2.")}
        for network in filter(None, (self.network, self.ema)):
            network.load_state_dict(trained, strict=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer by name; its learning rate is set anew at every step, see `optimizer_step`."""
        h = self.hparams
        optimizer = build_optimizer(
            h["optimizer"],
            self.network,
            lr=h["lr"],
            momentum=h["momentum"],
            nesterov=h["nesterov"],
            weight_decay=h["weight_decay"],
            aux_lr=h["aux_lr"],
        )
        self._settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        return optimizer

    def on_train_start(self) -> None:
        """Read the run's length, and let this run's settings hold where a resumed optimizer brought its own.

        A fit that starts, rather than goes on, takes over the weights it is to start from.
        """
        if self.hparams["init_from"] and not self.trainer.global_step:
            self.start_from(self.hparams["init_from"])
        self._total_steps = self.trainer.estimated_stepping_batches
        self._steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        name = self.hparams["schedule"]
        if not math.isfinite(self._total_steps) and (name in ("cosine", "linear") or self.hparams["warmup"]):
            raise InputError(f"model.schedule: {name} needs an end; set trainer.max_epochs or trainer.max_steps")
        if self.hparams["sam_rho"] and self.trainer.accumulate_grad_batches != 1:
            raise InputError("model.sam_rho: expected 0 where trainer.accumulate_grad_batches is above 1")
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        for group, own in zip(optimizer.param_groups, self._settings, strict=True):
            group.update(own)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Set the schedule's learning rate, step, and move the averaged weights."""
        factor = self._factor()
        for group, own in zip(optimizer.param_groups, self._settings, strict=True):
            group["lr"] = own["lr"] * factor
        step = self.trainer.global_step
        optimizer.step(
            closure=self._sharpness_aware(optimizer_closure) if self.hparams["sam_rho"] else optimizer_closure
        )
        self.has_trained = True
        if self._logs_step():  # of accumulated batches the last one's loss
            self.write({"train/loss_step": float(self._loss_step), "lr": self._settings[0]["lr"] * factor}, step)
        if self.ema is not None:
            # Young averages forget faster, so that the initial weights leave no trace.
            decay = min(self.hparams["ema_decay"], (step + 1) / (step + 10))
            with torch.no_grad():
                averaged: list[Tensor] = list(self.ema.parameters())
                torch._foreach_lerp_(averaged, list[Tensor](self.network.parameters()), weight=1 - decay)

    def _sharpness_aware(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """A closure that leaves SAM's gradients. What Lightning keeps as the step's loss is then the one uphill."""

        def twice() -> Any:
            loss = closure()
            self._uphill = True
            try:
                with perturbed_weights(self.network, self.hparams["sam_rho"]):
                    closure()
            finally:
                self._uphill = False
            return loss

        return twice

    def write(self, scalars: dict[str, float], step: int) -> None:
        """Write to the loggers at once. What is given to `log` waits until after the callbacks, and so a checkpoint."""
        if not self.trainer.sanity_checking:
            for logger in self.loggers:
                logger.log_metrics({"epoch": self.trainer.current_epoch, **scalars}, step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the epoch's scores have counted so far, each process's for itself."""
        metrics = self.train_metrics.items(keep_base=True, copy_state=False)
        states: dict[str, Any] = {name: metric.metric_state for name, metric in metrics}
        mine = {name: {key: value.cpu() for key, value in state.items()} for name, state in states.items()}
        checkpoint["train_scores"] = all_gather_objects(mine)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting the epoch's scores; of another number of processes each takes what several or none had."""
        rank, processes = rank_and_world_size()
        for number, states in enumerate(checkpoint["train_scores"]):
            self._counted |= any(bool(value.any()) for state in states.values() for value in state.values())
            if number % processes == rank:
                for name, metric in self.train_metrics.items(keep_base=True, copy_state=False):
                    metric.merge_state(states[name])

    def _evaluate(self, batch: Batch, metrics: MetricCollection) -> Tensor:
        log_probs = self(batch.images)
        self._count(log_probs, batch, metrics)
        return log_probs  # type: ignore[no-any-return]

    def _count(self, log_probs: Tensor, batch: Batch, metrics: MetricCollection) -> None:
        if len(batch.labels):  # a shard may be empty
            metrics.update(log_probs.detach(), batch.labels)

    def _log_scores(self, metrics: MetricCollection) -> dict[str, Tensor]:
        """Log every scalar, and each class's accuracy; `compute` has already summed over the processes. Start anew."""
        values: dict[str, Tensor] = metrics.compute()
        scalars: dict[str, Tensor] = {}
        for name, value in values.items():
            if name.endswith("class_acc"):
                scalars |= {f"{name}/{label}": accuracy for label, accuracy in enumerate(value)}
            elif name.endswith("confusion"):
                self.confusion = value
            else:
                scalars[name] = value
        for name, value in scalars.items():
            self.log(name, value, prog_bar=name in ("val/acc", "val/loss"), logger=False)
        self.write({name: float(value) for name, value in scalars.items()}, self._last_step())
        metrics.reset()
        return values

    def _logs_step(self) -> bool:
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return bool(every) and (self.trainer.global_step + 1) % every == 0

    def _last_step(self) -> int:
        """The step that was taken last, counted from 0."""
        return max(self.trainer.global_step - 1, 0)

    def _dropout_mask(self, batch: Batch) -> Tensor:
        """(B, 4096): 0 where a feature is dropped, else 1 / (1 - p). Keyed like every random number of training."""
        p: float = self.hparams["dropout"]
        assert batch.epoch is not None
        draws = uniform(self.hparams["seed"], batch.epoch, batch.indices, FEATURES, stream=DROPOUT)
        return ((draws >= p) / (1 - p)).to(self.network.fc1.weight.dtype)

    def _factor(self) -> float:
        h = self.hparams
        return lr_factor(
            h["schedule"],
            self.trainer.global_step,
            total_steps=self._total_steps,
            steps_per_epoch=self._steps_per_epoch,
            warmup=h["warmup"],
            step_size=h["step_size"],
            gamma=h["gamma"],
        )

    def _images_per_step(self, batch: Batch, batch_idx: int) -> float:
        """Images of the optimizer's step, divided by the number of batches that Lightning averages over."""
        accumulated = self.trainer.accumulate_grad_batches
        if accumulated == 1:
            return batch.size
        first = batch_idx - batch_idx % accumulated
        stop = min(first + accumulated, int(self.trainer.num_training_batches))
        loader: Any = self.trainer.train_dataloader
        return int(sum(map(loader.size, range(first, stop)))) / accumulated


def _run(network: nn.Module, images: Tensor, mask: Tensor | None) -> Tensor:
    dtype = next(network.parameters()).dtype
    x = standardize(images).to(dtype, memory_format=torch.channels_last)  # (B, 1, 28, 28)
    return network(x, mask)  # type: ignore[no-any-return]


def _check(name: str, value: float, holds: bool, wanted: str) -> None:  # noqa: FBT001
    if not holds:
        raise InputError(f"model.{name}: expected {wanted}, got {value}")
