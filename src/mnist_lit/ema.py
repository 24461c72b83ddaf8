"""A LightningModule that trains its network, and evaluates an exponential moving average (EMA) of the weights."""

from typing import Any

import torch
from torch import nn

from mnist_lit import optim
from mnist_lit.captured_step import CapturingModule
from mnist_lit.errors import require
from mnist_lit.metrics import HALF_PRECISION
from mnist_lit.runs.weights import with_ema_weights


class AveragingModule(CapturingModule):
    """A LightningModule whose network may have a second copy, `ema`, that holds the average of its weights."""

    network: nn.Module
    ema: nn.Module | None

    def __init__(self) -> None:
        super().__init__()
        self._has_average = False  # whether a fit has started, or averaged weights were loaded
        self.register_load_state_dict_post_hook(_note_loaded)  # type: ignore[no-untyped-call]
        self.register_state_dict_pre_hook(_begin_average)  # type: ignore[no-untyped-call]
        self._ema_hooks: list[Any] = []

    @property
    def evaluated_network(self) -> nn.Module:
        """The EMA if there is one, except where a fit computes gradients."""
        trains = self.is_fitting and torch.is_grad_enabled()
        return self.ema if self.ema is not None and self._has_average and not trains else self.network

    def setup(self, stage: str) -> None:
        """Freeze the EMA: Lightning's `unfreeze` turns gradients on for it, too, and DDP would wait for them."""
        super().setup(stage)
        if self.ema is not None:
            self.ema.requires_grad_(False)

    def start_fit(self) -> None:
        """Average the weights after every step of an optimizer, whoever takes it. Raises InputError for weights in half
        precision, whose average would stop changing: most differences from it are rounded away."""
        super().start_fit()
        is_half = self.ema is not None and any(one.dtype in HALF_PRECISION for one in self.ema.parameters())
        expected = "0 with weights in half precision, or trainer.precision bf16-mixed"
        require("model.ema_decay", self.hparams["ema_decay"], expected, not is_half)
        _begin_average(self)
        self._has_average = True
        for hook in self._ema_hooks:  # of an earlier fit, or of the learning-rate finder's
            hook.remove()
        self._ema_hooks = [one.register_step_post_hook(self._average) for one in self.trainer.optimizers]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the EMA weights, the only weights in a checkpoint stripped for sharing."""
        super().on_load_checkpoint(checkpoint)
        if self.ema is not None or not self.is_fitting:  # a fit without EMA cannot resume one with it
            checkpoint["state_dict"] = with_ema_weights(checkpoint["state_dict"], self.state_dict())

    def _average(self, *_: Any) -> None:
        if self.ema is not None and not self.replays:  # a captured step does this itself
            weight = optim.ema_weight(self.hparams["ema_decay"], self.trainer.global_step)
            optim.update_ema(self.ema, self.network, weight)


def _begin_average(module: AveragingModule, *_: Any) -> None:
    """Copy weights that were set by hand."""
    if module.ema is not None and not module._has_average:
        module.ema.load_state_dict(module.network.state_dict())


def _note_loaded(module: AveragingModule, keys: Any) -> None:
    module._has_average = not any(".ema." in f".{name}" for name in keys.missing_keys)
