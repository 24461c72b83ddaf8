"""A captured step is the textbook step: the same bits on a CPU, where the same code runs without a graph."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, GradientAccumulationScheduler, LearningRateFinder
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from mnist_lit import captured_step
from mnist_lit.captured_step import CapturedStep
from mnist_lit.data.loaders import Batch, DeferredBatch
from mnist_lit.module import MNISTModule
from plain import digits, trainer

EPOCHS, STEPS, BATCH = 2, 50, 8  # a hundred steps, in two epochs
WARP = {"degrees": 15.0, "scale": 0.1, "shear": 10.0, "translate": 2.0}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sgd": ({"nesterov": True, "weight_decay": 1e-4, "warmup": 0.2}, {}),
    "adamw": ({"optimizer": "adamw", "lr": 0.002, "weight_decay": 0.05, "schedule": "cosine"}, {}),
    "muon": ({"optimizer": "muon", "lr": 0.02, "weight_decay": 0.1}, WARP),
    "ema": ({"ema_decay": 0.98, "label_smoothing": 0.1}, WARP),
    "dropout": ({"dropout": 0.4}, {"crop_prob": 0.5}),
    "annealed": ({}, {**WARP, "anneal": 0.2}),
    "sam": ({"sam_rho": 0.05}, {}),
    "all": (
        {"optimizer": "muon", "lr": 0.02, "sam_rho": 0.1, "ema_decay": 0.98, "dropout": 0.3, "init": "he"},
        {**WARP, "anneal": 0.2},
    ),
}


class Record(Callback):
    """Every step's loss, and the images of the last batch as a callback sees them."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.images = torch.empty(0)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))
        self.images = batch.images


def fit(
    model: dict[str, Any], data: dict[str, Any], *callbacks: Callback, epochs: int = EPOCHS, **options: Any
) -> tuple[dict[str, Any], Record]:
    """Train; returns everything that a fit changes, in plain tensors, and what a callback saw."""
    made_new = {name: value() if isinstance(value, type) else value for name, value in model.items()}
    module, record = MNISTModule(**made_new), Record()
    options = {"limit_train_batches": STEPS, "log_every_n_steps": 1, **options}
    made = trainer(max_epochs=epochs, callbacks=[record, *callbacks], **options)
    made.fit(module, datamodule=digits(**{"batch_size": BATCH, **data}))
    optimizer = made.optimizers[0].state_dict()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    state |= {f"{n}.{key}": torch.as_tensor(v) for n, own in optimizer["state"].items() for key, v in own.items()}
    state |= {f"group {n}.{key}": v for n, group in enumerate(optimizer["param_groups"]) for key, v in group.items()}
    return state | {name: float(value) for name, value in made.callback_metrics.items()}, record


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    assert one.keys() == other.keys()
    return all(bool(torch.as_tensor(one[name] == value).all()) for name, value in other.items())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_hundred_captured_steps_are_the_textbook_steps_bit_for_bit(case: str, captured_steps: list[int]) -> None:
    model, data = CASES[case]
    textbook, seen = fit(model, data)
    assert not captured_steps
    captured, seen_captured = fit({**model, "cuda_graph": True}, data)
    assert len(captured_steps) == EPOCHS * STEPS
    assert equal(captured, textbook)
    assert seen_captured.losses == seen.losses
    assert seen_captured.images.equal(seen.images)


def test_a_few_captured_steps_with_everything_on_are_the_textbook_steps(captured_steps: list[int]) -> None:
    model, data = CASES["all"]
    few = {"limit_train_batches": 2, "limit_val_batches": 1}
    textbook, seen = fit(model, data, **few)
    captured, seen_captured = fit({**model, "cuda_graph": True}, data, **few)
    assert len(captured_steps) == EPOCHS * 2
    assert equal(captured, textbook)
    assert seen_captured.losses == seen.losses
    for change in ({"seed": 1}, {"dropout": 0.2}, {"sam_rho": 0.0}, {"ema_decay": 0.2}, {"lr": 0.0200001}):
        assert not equal(fit({**model, "cuda_graph": True, **change}, data, **few)[0], captured), change
    assert not equal(fit({**model, "cuda_graph": True}, {**data, "anneal": 0.3}, **few)[0], captured)


def test_autocast_covers_the_forward_pass_only(captured_steps: list[int]) -> None:
    model, data = CASES["all"]
    few = {"epochs": 1, "limit_train_batches": 3, "limit_val_batches": 0}
    textbook, _ = fit(model, data, precision="bf16-mixed", **few)
    captured, _ = fit({**model, "cuda_graph": True}, data, precision="bf16-mixed", **few)
    assert len(captured_steps) == 3
    assert equal(captured, textbook)
    assert not equal(fit(model, data, **few)[0], textbook)  # the control, without autocast


def test_a_smaller_last_batch_takes_the_textbook_step(captured_steps: list[int]) -> None:
    data = {"fraction": 0.05, "batch_size": 24}  # 63 images
    textbook, _ = fit({"momentum": 0.9}, data)
    captured, _ = fit({"momentum": 0.9, "cuda_graph": True}, data)
    assert len(captured_steps) == EPOCHS * 2
    assert equal(captured, textbook)


class OwnCNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(784, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1))  # type: ignore[no-any-return]


class HalvedGradients(Callback):
    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for weights in pl_module.parameters():
            assert weights.grad is not None
            weights.grad.mul_(0.5)


class OwnStep(MNISTModule):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return 2 * super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("model", "data", "options", "reason"),
    [
        ({"network": OwnCNN}, {}, {}, "the network is not the tutorial's"),
        ({}, {"continental": 0.5}, {}, "the augmentation is data.continental, data.handwriting, or one of your own"),
        ({}, {}, {"accumulate_grad_batches": 2}, "trainer.accumulate_grad_batches is above 1"),
        ({}, {}, {"gradient_clip_val": 1.0}, "trainer.gradient_clip_val is set"),
        ({}, {}, {"precision": "64-true"}, "trainer.precision is 64-true"),
        ({}, {}, {"callbacks": [GradientAccumulationScheduler({0: 2})]}, "trainer.accumulate_grad_batches is above 1"),
        ({}, {}, {"detect_anomaly": True}, "trainer.detect_anomaly looks at every gradient"),
        ({}, {}, {"callbacks": [HalvedGradients()]}, "HalvedGradients may change the model within a step"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@pytest.mark.filterwarnings("ignore:When using `Trainer.accumulate_grad_batches")  # the scheduler sets it
def test_what_cannot_be_captured_is_trained_eagerly_and_says_so_once(
    model: dict[str, Any],
    data: dict[str, Any],
    options: dict[str, Any],
    reason: str,
    captured_steps: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = {"epochs": 1, "limit_train_batches": 2, "limit_val_batches": 0, **options}
    textbook, _ = fit(model, data, *few.pop("callbacks", ()), **few)
    assert "CUDA graph" not in capsys.readouterr().out
    eager, _ = fit({**model, "cuda_graph": True}, data, *options.get("callbacks", ()), **few)
    assert capsys.readouterr().out == f"fit: training step by step, without a CUDA graph: {reason}\n"
    assert not captured_steps
    assert equal(eager, textbook)


def test_the_learning_rate_finders_own_schedule_is_not_reported(capsys: pytest.CaptureFixture[str]) -> None:
    finder = LearningRateFinder(num_training_steps=20, update_attr=False)
    made = trainer(callbacks=[finder], limit_train_batches=25, limit_val_batches=0)
    made.fit(MNISTModule(cuda_graph=True), datamodule=digits(batch_size=BATCH))
    assert finder.optimal_lr is not None
    assert "CUDA graph" not in capsys.readouterr().out


def test_a_strategy_for_several_processes_is_a_reason_against() -> None:
    made, module = trainer(limit_train_batches=1, limit_val_batches=0), MNISTModule()
    made.fit(module, datamodule=digits(batch_size=BATCH))
    assert captured_step.why_not_captured(made, module, MNISTModule) == ""
    names = ("train_dataloader", "callbacks", "accumulate_grad_batches", "gradient_clip_val", "precision")
    other = SimpleNamespace(**{name: getattr(made, name) for name in names}, strategy=DDPStrategy())
    assert captured_step.why_not_captured(other, module, MNISTModule) == "trainer.strategy is for several processes"


def test_a_subclass_with_a_step_of_its_own_is_trained_eagerly(
    captured_steps: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    made = trainer(limit_train_batches=1, limit_val_batches=0)
    made.fit(OwnStep(cuda_graph=True), datamodule=digits(batch_size=BATCH))
    assert "OwnStep may train in another way" in capsys.readouterr().out
    assert not captured_steps


class Freezes(Callback):
    """Freezes a layer after the third step."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == 3:
            pl_module.network.conv1.requires_grad_(False)


def test_weights_that_a_callback_freezes_end_the_capturing(
    captured_steps: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    few = {"epochs": 1, "limit_train_batches": 6, "limit_val_batches": 0}
    textbook, seen = fit({}, {}, Freezes(), **few)
    captured, seen_captured = fit({"cuda_graph": True}, {}, Freezes(), **few)
    assert len(captured_steps) == 3
    assert capsys.readouterr().out.count("weights were replaced or frozen") == 1
    assert equal(captured, textbook)
    assert seen_captured.losses == seen.losses


class FakeGraph:
    """Runs the step again where a GPU would repeat its kernels. On a CPU, capturing has already run it once."""

    step: CapturedStep
    captures = replays = 0

    def replay(self) -> None:
        FakeGraph.replays += 1
        if FakeGraph.replays > FakeGraph.captures:
            for static, new in zip(self.step._outputs, self.step._step(), strict=True):
                static.copy_(new)


def test_three_steps_warm_up_then_one_is_captured_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    textbook, seen = fit({"ema_decay": 0.9}, {}, epochs=1, limit_train_batches=8)
    stream = type("Stream", (), {"wait_stream": lambda *_: None})()

    @contextlib.contextmanager
    def capture(graph: FakeGraph, stream: Any) -> Iterator[None]:
        FakeGraph.captures += 1
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    original = CapturedStep.__init__

    def with_stream(self: CapturedStep, *args: Any) -> None:
        original(self, *args)
        self._stream, FakeGraph.step = stream, self

    monkeypatch.setattr(CapturedStep, "__init__", with_stream)
    captured, seen_captured = fit({"ema_decay": 0.9, "cuda_graph": True}, {}, epochs=1, limit_train_batches=8)
    assert (FakeGraph.captures, FakeGraph.replays) == (1, 8 - captured_step.WARM_UP)
    assert equal(captured, textbook)
    assert seen_captured.losses == seen.losses


class NoGradient(MNISTModule):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx).detach()


def test_a_step_without_gradients_is_still_an_error() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        trainer(limit_train_batches=1).fit(NoGradient(), datamodule=digits(batch_size=BATCH))


def test_after_a_fit_nothing_is_captured_and_a_deferred_batch_can_be_moved() -> None:
    module, data = MNISTModule(cuda_graph=True), digits(batch_size=BATCH)
    made = trainer(limit_train_batches=1, limit_val_batches=0)
    made.fit(module, datamodule=data)
    assert module._captured is None
    loader: Any = made.train_dataloader
    assert not loader.deferred  # another fit may use it
    loader = data.train_dataloader()
    loader.deferred = True
    batch = next(iter(loader))
    assert isinstance(batch, DeferredBatch)
    moved = batch.to("meta")
    assert {moved.inputs.device.type, moved.labels.device.type, moved.indices.device.type} == {"meta"}
    assert (moved.size, moved.epoch) == (BATCH, 0)


@pytest.mark.slow
def test_a_captured_run_resumes_to_the_same_bits(cli: Any) -> None:
    fits = ("--config", "quickstart", "--model.cuda_graph", "true", "--trainer.max_epochs", "2")
    code, out, _ = cli("verify-resume", "--kills", "2", *fits)
    assert (code, "equal" in out) == (0, True)
