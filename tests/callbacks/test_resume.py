"""Every process learns where a fit begins from rank 0, and sums gradients in the order of the ranks."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mnist_lit.callbacks.resume import BroadcastResume, RankOrderedGradients, RunFinished
from mnist_lit.runs.start import RunStart
from mnist_lit.system.distributed import rank_ordered_mean


def trainer(found: RunStart) -> Any:
    """A trainer whose rank 0 has found this."""
    return SimpleNamespace(strategy=SimpleNamespace(broadcast=lambda mine: vars(found)))


def test_another_process_takes_over_what_rank_0_has_found() -> None:
    start, found = RunStart(), RunStart(Path("version_3"), Path("last.ckpt"), continues=True)
    callback = BroadcastResume(start)
    assert bool(callback.path)  # Lightning looks at it before rank 0 has told
    callback.setup(trainer(found), None, "fit")  # type: ignore[arg-type]
    assert start == found
    assert bool(callback.path)
    assert os.fspath(callback.path) == "last.ckpt"
    callback.on_train_batch_end(trainer(found))
    assert start.has_trained


def test_without_a_checkpoint_there_is_no_path_once_that_is_known() -> None:
    callback = BroadcastResume(RunStart())
    callback.setup(trainer(RunStart(Path("version_3"))), None, "fit")  # type: ignore[arg-type]
    assert not callback.path


def test_a_finished_run_ends_every_process() -> None:
    with pytest.raises(RunFinished):
        BroadcastResume(RunStart()).setup(trainer(RunStart(finished=True)), None, "fit")  # type: ignore[arg-type]


def test_only_ddp_gets_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks: list[tuple[object, Callable[..., Any]]] = []
    monkeypatch.setattr(DistributedDataParallel, "register_comm_hook", lambda _, *args: hooks.append(args))
    for model in (nn.Linear(1, 1), DistributedDataParallel.__new__(DistributedDataParallel)):
        RankOrderedGradients().on_fit_start(SimpleNamespace(strategy=SimpleNamespace(model=model)))  # type: ignore[arg-type]
    assert hooks == [(None, rank_ordered_mean)]
