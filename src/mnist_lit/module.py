"""The LightningModule: loss, metrics, optimizer and EMA weights of the tutorial's network.

It reads top to bottom: construct, forward, train, validate and test, optimize. `optim` updates the weights, `metrics`
does the counting; callbacks handle checkpoints, figures and run folders. The base classes change only how a step runs,
when its losses are logged and how a run resumes; a first reading can skip them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from mnist_lit import optim
from mnist_lit.captured_step import never_compiled
from mnist_lit.data.dropout import keyed_dropout
from mnist_lit.data.loaders import Batch, check_batch_norm, loss_scale
from mnist_lit.ema import AveragingModule
from mnist_lit.errors import require
from mnist_lit.exact_resume import check_accumulation_schedules, was_updated
from mnist_lit.hyperparameters import check_arguments, complete_hyperparameters, global_seed, hyperparameters_of
from mnist_lit.metrics import classification_metrics, scalar_scores, smoothed_nll, update_metrics
from mnist_lit.own_network import InitName, class_name, initialized, is_tutorial, log_probabilities
from mnist_lit.runs.metadata import METADATA_KEY, Metadata
from mnist_lit.runs.versions import checkout_commit
from mnist_lit.runs.weights import warm_start


class MNISTModule(AveragingModule):
    """Trains and scores the tutorial's network, or another one.

    It trains on batches `x, y`: standardized float32 images (B, 1, 28, 28) and int64 labels (B,). Batches from
    `MNISTDataModule` also carry each image's position in the dataset, which makes training exact on any number of
    devices.

    Args:
        optimizer: `sgd`, `adamw`, or `muon` (with AdamW for biases and the output layer).
        lr: peak learning rate.
        momentum: momentum of SGD and Muon.
        weight_decay: weight decay; decoupled except for SGD.
        aux_lr: learning rate of the AdamW that accompanies Muon.
        schedule: `constant`, `step`, `cosine` or `linear`.
        warmup: fraction of all steps over which the learning rate first rises.
        step_size: epochs between two drops of the `step` schedule.
        gamma: factor of each drop of the `step` schedule.
        ema_decay: above 0, evaluate and save an exponential moving average of the weights.
        init: `default` is torch's initialization, `he` is Kaiming-normal.
        init_from: trained model whose weights replace the random ones when a fit starts: a checkpoint, a run,
            `latest`, `last` or `pretrained`. fc2 is copied only if the number of classes matches. Ignored when a run
            resumes.
        dropout: fraction of the convolutions' features dropped before fc1.
        sam_rho: above 0, use sharpness-aware minimization with this radius; doubles the time per step.
        label_smoothing: fraction of each label spread evenly over all classes. Logged losses stay the plain NLL.
        num_classes: number of outputs; the command line takes it from the data.
        seed: seed of initial weights and dropout; by default that of Lightning's `seed_everything`, or 0.
        nesterov: use Nesterov momentum in SGD.
        network: a network of your own instead of the tutorial's: an `nn.Module` that maps standardized images
            (B, 1, 28, 28) to logits or log-probabilities (B, C).
        compile: compile the network with `torch.compile` when training starts.
        cuda_graph: replay each training step as one CUDA graph, see `captured_step`; by default on a GPU only.
    """

    def __init__(
        self,
        optimizer: optim.OptimizerName = "sgd",
        lr: float = 0.05,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        aux_lr: float = 0.002,
        schedule: optim.ScheduleName = "linear",
        warmup: float = 0.0,
        step_size: int = 15,
        gamma: float = 0.1,
        ema_decay: float = 0.0,
        init: InitName = "default",
        init_from: str = "",
        dropout: float = 0.0,
        sam_rho: float = 0.0,
        label_smoothing: float = 0.0,
        num_classes: int = 10,
        seed: int | None = None,
        *,
        nesterov: bool = False,
        network: nn.Module | None = None,
        compile: bool = False,
        cuda_graph: bool | None = None,
    ) -> None:
        seed = global_seed() if seed is None else seed
        given = dict(locals())
        check_arguments("model", MNISTModule, given)
        super().__init__()
        self.save_hyperparameters(ignore=["network"])
        texts = {"init_from": str(init_from), "network": class_name(network)}
        complete_hyperparameters(self, MNISTModule, given, **texts)
        optim.check_hyperparameters(self.hparams)
        self.network = initialized(network if isinstance(network, nn.Module) else None, num_classes, init, seed)
        if is_tutorial(self.network):
            self.network.dropout.p = dropout  # for passes without a batch's own mask, see `keyed_dropout`
        self.ema = optim.ema_copy(self.network) if ema_decay else None
        self.train_metrics = classification_metrics(num_classes, "train/", details=False)
        self.val_metrics = classification_metrics(num_classes, "val/")
        self.test_metrics = classification_metrics(num_classes, "test/")
        self.confusion: Tensor | None = None  # (C, C) counts of the latest evaluation; rows are true classes
        self.trained_with: Sequence[Mapping[str, str]] = ()  # before a resume, see `Metadata.history`
        self._warm_started = False  # true also after training; then `init_from` is ignored
        self.schedule: optim.Schedule | None = None  # ours, unless a subclass configures another
        if type(self).forward is MNISTModule.forward:
            self.example_input_array = torch.zeros(1, 1, 28, 28)  # for `to_onnx`, summaries and TensorBoard's graph

    def setup(self, stage: str) -> None:
        """Raise InputError if the data has a different number of classes; look up the commit."""
        super().setup(stage)
        classes = getattr(self.trainer.datamodule, "num_classes", self.hparams["num_classes"])  # type: ignore[attr-defined]
        expected = f"{classes}, the number of classes in the data"
        require("model.num_classes", self.hparams["num_classes"], expected, classes == self.hparams["num_classes"])
        if stage == "fit":
            checkout_commit()  # before training, since later edits do not change the running code

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities (B, C), using the EMA weights if there are any, except where a fit computes gradients.

        images: standardized float32 (B, 1, 28, 28), or uint8 (B, 28, 28) with 0 = paper, which are standardized here.
        Raises ValueError for others, unless the network is your own.
        """
        return log_probabilities(self.evaluated_network, images, self.hparams["num_classes"])

    @never_compiled
    def training_step(self, batch: Batch | Sequence[Tensor], batch_idx: int) -> Tensor:
        """A batch's loss, scaled so that DDP and Lightning average to the mean over all images of the step."""
        batch = Batch.of(batch, self.current_epoch, batch_idx)
        is_first_pass = self.begin_pass(batch_idx)  # in exact_resume; SAM makes two passes per batch
        loss, log_probs = self.replay(batch) or self.training_loss(batch, batch_idx)  # replay: in captured_step
        if is_first_pass:
            self.count_when_over(batch_idx, log_probs.detach(), batch.labels)  # in exact_resume, for the epoch's scores
            self.log_loss(log_probs.detach(), batch.labels, batch.size)  # in step_logging
        return loss

    def training_loss(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """The loss of a training batch as `training_step` returns it, and its log-probabilities (B, C)."""
        once, h = type(self).forward is MNISTModule.forward, self.hparams
        with keyed_dropout(self.network, batch, batch_idx, seed=h["seed"], p=h["dropout"], runs_once=once):
            log_probs = self(batch.inputs)
        loss = smoothed_nll(log_probs, batch.labels, self.hparams["label_smoothing"])  # summed; `loss_scale` divides it
        return loss * loss_scale(self.trainer, batch, batch_idx), log_probs

    def on_train_epoch_end(self) -> None:
        """Log the epoch's scores, counted on augmented images while the weights were still changing."""
        self.finish_logging()
        self.count_step()
        if self.has_counts:  # false if the run resumes after these were logged
            self._log_scores(self.train_metrics)
            self.has_counts = False

    def on_validation_epoch_start(self) -> None:
        """Start from zero, even after an interrupted evaluation."""
        self.val_metrics.reset()

    def validation_step(self, batch: Batch | Sequence[Tensor], batch_idx: int) -> Tensor:
        """Score a validation batch; returns its log-probabilities for callbacks."""
        return self._score(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the validation scores, unless a subclass has counted its own."""
        if was_updated(self.val_metrics):
            self._log_scores(self.val_metrics)

    def on_test_epoch_start(self) -> None:
        """Start from zero, even after an interrupted evaluation."""
        self.test_metrics.reset()

    def test_step(self, batch: Batch | Sequence[Tensor], batch_idx: int) -> Tensor:
        """Score a test batch; returns its log-probabilities for callbacks."""
        return self._score(batch, self.test_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the test scores, unless a subclass has counted its own."""
        if was_updated(self.test_metrics):
            self._log_scores(self.test_metrics)

    def predict_step(self, batch: Batch | Sequence[Tensor] | Tensor, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Probabilities (B, C) of a batch `x, y`, or of images alone."""
        log_probs: Tensor = self(batch if isinstance(batch, Tensor) else batch[0])
        return log_probs.exp()

    def configure_optimizers(self) -> Any:
        """The optimizer by name, and the schedule of its learning rate, which advances with every step."""
        optimizer = optim.build_optimizer(self.network, self.hparams)
        self.schedule = optim.Schedule(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule, "interval": "step"}}

    def start_fit(self) -> None:
        """Read the length of the run, and let this run's options override those of a resumed optimizer.

        Reading the length earlier would lose a saved loader position (Lightning issue 20550). Another optimizer or
        schedule, from a subclass or a callback, is left alone.
        """
        super().start_fit()
        if self.hparams["init_from"] and not self._warm_started and not self.trainer.global_step:
            warm_start([self.network, *([self.ema] if self.ema else [])], self.hparams["init_from"])
        self._warm_started = True
        if self.hparams["compile"]:
            self.network.compile()  # in place, so parameters keep their names
        optim.check_accumulation(self.hparams, self.trainer.accumulate_grad_batches)
        check_batch_norm(self.network, self.trainer)
        if self.schedule and any(one.scheduler is self.schedule for one in self.trainer.lr_scheduler_configs):
            check_accumulation_schedules(self.trainer, self.hparams)
            options = optim.build_optimizer(self.network, self.hparams).param_groups  # lr may have been tuned
            self.schedule.start(self.trainer.global_step, options, self.hparams, *optim.planned_steps(self.trainer))
        captured = self.hparams["cuda_graph"]
        self.start_steps(MNISTModule, captured=self.device.type == "cuda" if captured is None else captured)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Take the step, with sharpness-aware minimization if enabled."""
        step, lr = self.trainer.global_step, optimizer.param_groups[0]["lr"]
        if self.hparams["sam_rho"] and not self.replays:  # a captured step has already done all of this
            optim.check_accumulation(self.hparams, self.trainer.accumulate_grad_batches)  # a callback may change it
            optimizer_closure = optim.sam_closure(optimizer_closure, self.network, self.hparams["sam_rho"])
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.logs_this_step():
            self.log_step(step, lr)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the counts for the epoch's scores, and the metadata that describes the checkpoint."""
        super().on_save_checkpoint(checkpoint)
        if METADATA_KEY not in checkpoint:  # otherwise `SaveBestAndLast` has stored the run's config.yaml
            hparams = hyperparameters_of(MNISTModule, self.hparams)
            checkpoint[METADATA_KEY] = Metadata.of_trainer(self.attached_trainer, hparams, self.trained_with).to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read the metadata."""
        super().on_load_checkpoint(checkpoint)
        self._warm_started = bool(checkpoint.get("global_step"))
        self.trained_with = Metadata.of(checkpoint).history if METADATA_KEY in checkpoint else ()

    @never_compiled
    def _score(self, batch: Batch | Sequence[Tensor], metrics: MetricCollection) -> Tensor:
        batch = Batch.of(batch)
        log_probs: Tensor = self(batch.inputs)
        update_metrics(metrics, log_probs, batch.labels)
        return log_probs

    def _log_scores(self, metrics: MetricCollection) -> None:
        """Log the scores of all processes together, and reset the metrics."""
        values: dict[str, Tensor] = metrics.compute()
        self.confusion = next((value for name, value in values.items() if name.endswith("confusion")), self.confusion)
        scalars = scalar_scores(values)
        fitting = self.trainer.state.fn == "fit"
        for name, value in scalars.items():
            # With `logger=None`, `trainer.test` and `trainer.validate` return the scores; True would require a logger.
            self.log(name, value, prog_bar=name in ("val/acc", "val/loss"), logger=False if fitting else None)
        if fitting:
            self.log_now({name: float(value) for name, value in scalars.items()}, max(self.trainer.global_step - 1, 0))
        metrics.reset()
