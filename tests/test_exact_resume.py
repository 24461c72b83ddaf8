"""Runs that Lightning alone would not resume exactly end with the same bits as an uninterrupted run."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from torch import Tensor

from mnist_lit.module import MNISTModule
from plain import digits, trainer


@pytest.mark.parametrize(
    ("options", "module", "saved"),
    [
        ({"max_steps": 8}, {}, "epoch_0"),  # Lightning alone would skip the second epoch
        (
            {"accumulate": {0: 2, 1: 3}, "limit_train_batches": 6},
            {"schedule": "constant"},
            "step_1",
        ),  # within the first epoch
        ({"precision": "64-true", "max_epochs": 1}, {}, "step_2"),
        ({"max_epochs": 2}, {}, "step_3"),  # after the epoch's last step, but before its end
    ],
)
@pytest.mark.filterwarnings("ignore:When using `Trainer.accumulate_grad_batches", "ignore:The dirpath has changed")
def test_what_lightning_alone_would_not_resume_exactly_is_resumed_exactly(
    options: dict[str, Any], module: dict[str, Any], saved: str, tmp_path: Path
) -> None:
    def fit(folder: str, ckpt_path: Path | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        saves: dict[str, dict[str, Any]] = {"step": {"every_n_train_steps": 1}, "epoch": {"every_n_epochs": 1}}
        callbacks: list[L.Callback] = []
        for name, when in saves.items():
            filename = f"{name}_{{{name}}}"
            keep_all: dict[str, Any] = {"save_top_k": -1, "auto_insert_metric_name": False}
            callbacks.append(ModelCheckpoint(tmp_path / folder, filename, **keep_all, **when))
        rest = {"max_epochs": 3, "limit_train_batches": 3, **options}
        if "accumulate" in rest:
            callbacks.append(GradientAccumulationScheduler(rest.pop("accumulate")))
        made = trainer(callbacks=callbacks, enable_checkpointing=True, **rest)
        trained = MNISTModule(**module)
        made.fit(trained, digits(batch_size=8), ckpt_path=ckpt_path, weights_only=True)
        return trained.state_dict(), {name: score.clone() for name, score in made.callback_metrics.items()}

    control, scores = fit("control")
    checkpoint = tmp_path / f"control/{saved}.ckpt"
    assert not torch.load(checkpoint)["state_dict"]["network.fc2.bias"].equal(control["network.fc2.bias"])
    resumed, again = fit("resumed", checkpoint)
    assert all(resumed[name].equal(weights) for name, weights in control.items())
    assert all(again[name].equal(score) for name, score in scores.items())


def test_a_fit_leaves_the_trainers_methods_as_they_were() -> None:
    used = trainer(limit_train_batches=1)
    before = {*vars(used.fit_loop)}
    used.fit(MNISTModule(), digits())
    assert {*vars(used.fit_loop)} == before
