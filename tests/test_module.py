"""Training matches a plain loop, metrics are sums over images divided by counts, and resuming is exact."""

import contextlib
import copy
import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, Checkpoint, GradientAccumulationScheduler
from lightning.pytorch.utilities.model_summary.model_summary import ModelSummary

import plain
from few_digits import SETTINGS
from mnist_lit.data.keyed_random import DROPOUT, uniform
from mnist_lit.data.loaders import Batch
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.metrics import states
from mnist_lit.model import TutorialCNN, standardize
from mnist_lit.module import MNISTModule
from mnist_lit.optim import Muon, OptimizerName, lr_factor
from mnist_lit.own_network import log_probabilities
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.locate import PRETRAINED_DIR
from mnist_lit.runs.metadata import Metadata, config_of
from mnist_lit.runs.sharing import strip_for_sharing

RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {
        "optimizer": "sgd",
        "lr": 0.05,
        "nesterov": True,
        "weight_decay": 0.01,
        "schedule": "linear",
        "warmup": 0.3,
    },
    "adamw": {
        "optimizer": "adamw",
        "lr": 0.002,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "dropout": 0.3,
        "label_smoothing": 0.2,
    },
    "muon": {
        "optimizer": "muon",
        "lr": 0.02,
        "momentum": 0.8,
        "weight_decay": 0.05,
        "aux_lr": 0.003,
        "schedule": "step",
        "step_size": 1,
        "ema_decay": 0.9,
        "init": "he",
    },
    "sam": {"optimizer": "sgd", "lr": 0.05, "schedule": "constant", "sam_rho": 0.1},
}


def data(**options: Any) -> MNISTDataModule:
    """40 training images: 5 steps per epoch."""
    return MNISTDataModule(**SETTINGS, degrees=15, **options)


def fit(module: MNISTModule, datamodule: MNISTDataModule | None = None, **options: Any) -> pl.Trainer:
    ckpt_path = options.pop("ckpt_path", None)
    trainer = plain.trainer(**{"max_epochs": 2, "num_sanity_val_steps": 0, "limit_val_batches": 0, **options})
    trainer.fit(module, datamodule=datamodule or data(), ckpt_path=ckpt_path, weights_only=True)
    return trainer


class EveryStep(Checkpoint):
    """Save `step=N.ckpt` after every step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"step={trainer.global_step}.ckpt")


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two nested state dicts are equal bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_the_seed_alone_determines_the_initial_weights() -> None:
    before = torch.random.get_rng_state()
    one, same_seed, other = (MNISTModule(seed=seed).state_dict() for seed in (1, 1, 2))
    assert same(one, same_seed)
    assert not same(one, other)
    assert torch.random.get_rng_state().equal(before)


def test_he_initialization_has_the_right_variance_and_zero_biases() -> None:
    weights = MNISTModule(init="he").network.state_dict()
    assert weights["conv4.weight"].std() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)
    assert weights["fc1.weight"].std() == pytest.approx(math.sqrt(2 / 4096), rel=0.02)
    assert not any(weights[name].any() for name in weights if name.endswith("bias"))


def tutorial_network(module: MNISTModule) -> TutorialCNN:
    assert isinstance(module.network, TutorialCNN)
    return module.network


def by_hand(recipe: str, network: TutorialCNN) -> tuple[torch.optim.Optimizer, list[float]]:
    """The recipe's optimizer, and its learning rate factors for ten steps, written out."""
    if recipe == "sgd":
        factors = [1 / 4, 2 / 4, 3 / 4, *(1 - step / 7 for step in range(7))]
        return torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01), factors
    if recipe == "adamw":
        factors = [(1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)]
        return torch.optim.AdamW(network.parameters(), lr=0.002, weight_decay=0.1), factors
    if recipe == "sam":
        return torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9), [1.0] * 10
    hidden = [f"{layer}.weight" for layer in ("conv1", "conv2", "conv3", "conv4", "fc1")]
    weights = [p for name, p in network.named_parameters() if name in hidden]
    rest = [p for name, p in network.named_parameters() if name not in hidden]
    return Muon(weights, rest, lr=0.02, momentum=0.8, weight_decay=0.05, aux_lr=0.003), [1.0] * 5 + [0.1] * 5


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_matches_a_plain_loop(recipe: str) -> None:
    module, datamodule = MNISTModule(**RECIPES[recipe], seed=3), data(seed=3)
    network = copy.deepcopy(tutorial_network(module))
    initial = copy.deepcopy(network.state_dict())
    optimizer, factors = by_hand(recipe, network)
    rates = [group["lr"] for group in optimizer.param_groups]
    fit(module, datamodule)
    loader, step = datamodule.train_dataloader(), 0
    for epoch in range(2):
        loader.set_epoch(epoch)
        for batch in loader:
            x, y = batch
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factors[step]
            if recipe == "adamw":
                network.dropout.mask = (uniform(3, epoch, batch.indices, 4096, stream=DROPOUT) >= 0.3) / 0.7
            optimizer.zero_grad()
            log_probs = network(x)
            loss = F.nll_loss(log_probs, y)
            if recipe == "adamw":
                loss = F.cross_entropy(log_probs, y, label_smoothing=0.2)
            loss.backward()  # type: ignore[no-untyped-call]
            if recipe == "sam":  # the same arithmetic, as rounding that moves a pooling's maximum changes the gradient
                gradients = {p: p.grad for p in network.parameters() if p.grad is not None}
                start = copy.deepcopy(network.state_dict())
                fraction = 0.1 / (torch.nn.utils.get_total_norm(gradients.values()) + 1e-12)
                with torch.no_grad():
                    for weight, gradient in gradients.items():
                        weight.add_(gradient * fraction)
                optimizer.zero_grad()
                F.nll_loss(network(x), y).backward()  # type: ignore[no-untyped-call]
                network.load_state_dict(start)
            optimizer.step()
            step += 1
    assert step == 10
    for name, weight in network.state_dict().items():
        trained = module.network.state_dict()[name]
        if recipe == "adamw":  # rounding may flip the sign of a gradient near 0, which Adam's first steps follow
            assert (trained - weight).norm() < 0.01 * (weight - initial[name]).norm(), name
        else:
            torch.testing.assert_close(trained, weight, rtol=1e-4, atol=5e-5)
        assert (weight - initial[name]).abs().max() > 1e-4


@pytest.mark.parametrize("images", [128, 160, 100], ids=["full groups", "a last group of one", "a smaller last batch"])
def test_accumulated_batches_equal_one_large_batch(images: int) -> None:
    large, accumulated = (MNISTModule(lr=0.05, schedule="constant") for _ in range(2))
    val_size = 1437 - images
    fit(large, MNISTDataModule(dataset="digits", val_size=val_size, batch_size=min(128, images)))
    fit(accumulated, MNISTDataModule(dataset="digits", val_size=val_size, batch_size=32), accumulate_grad_batches=4)
    for name, weight in large.state_dict().items():
        torch.testing.assert_close(accumulated.state_dict()[name], weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_resuming_in_mid_epoch_is_exact(recipe: str, tmp_path: Path) -> None:
    def fit_saving(folder: Path, ckpt_path: Path | None = None) -> dict[str, Any]:
        options: dict[str, Any] = {
            "enable_checkpointing": True,
            "callbacks": [EveryStep(folder)],
            "ckpt_path": ckpt_path,
        }
        assert fit(MNISTModule(**RECIPES[recipe]), **options).global_step == 10
        last: dict[str, Any] = torch.load(folder / "step=10.ckpt", weights_only=True)
        return last

    uninterrupted = fit_saving(tmp_path)
    for stop in (3, 7):  # in the first and in the second epoch
        resumed = fit_saving(tmp_path / f"from {stop}", tmp_path / f"step={stop}.ckpt")
        assert same(uninterrupted["state_dict"], resumed["state_dict"])
        assert same(uninterrupted["optimizer_states"], resumed["optimizer_states"])
    before = torch.load(tmp_path / "step=9.ckpt", weights_only=True)
    assert not same(before["state_dict"], uninterrupted["state_dict"])  # the control


def test_options_beat_those_of_a_resumed_optimizer_state(tmp_path: Path) -> None:
    keep: dict[str, Any] = {"enable_checkpointing": True, "callbacks": [EveryStep(tmp_path)]}
    fit(MNISTModule(lr=0.05, schedule="constant"), max_epochs=1, **keep)
    module = MNISTModule(lr=0.01, momentum=0.5, schedule="constant")
    trainer = fit(module, ckpt_path=tmp_path / "step=5.ckpt", **keep)
    group = trainer.optimizers[0].param_groups[0]
    assert (group["lr"], group["momentum"]) == (0.01, 0.5)


def test_the_ema_follows_the_weights_and_is_what_evaluates() -> None:
    weights: list[dict[str, torch.Tensor]] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
            assert isinstance(pl_module, MNISTModule)
            weights.append({k: v.clone() for k, v in pl_module.network.state_dict().items()})

    module = MNISTModule(ema_decay=0.5)
    average = {k: v.clone() for k, v in module.network.state_dict().items()}
    fit(module, callbacks=[Watch()])
    for step, current in enumerate(weights):
        decay = min(0.5, (step + 1) / (step + 10))
        average = {k: decay * v + (1 - decay) * current[k] for k, v in average.items()}
    assert module.ema is not None
    for name, weight in module.ema.state_dict().items():
        torch.testing.assert_close(weight, average[name])
    images = torch.randint(0, 256, (4, 28, 28), dtype=torch.uint8)
    averaged, current_network = TutorialCNN(), TutorialCNN()
    averaged.load_state_dict(module.ema.state_dict())
    current_network.load_state_dict(module.network.state_dict())
    torch.testing.assert_close(module(images), averaged(standardize(images)))
    assert not torch.allclose(module(images), current_network(standardize(images)))


def test_a_training_step_that_calls_the_module_trains_its_network() -> None:
    class Calls(MNISTModule):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            x, y = batch
            return torch.nn.functional.nll_loss(self(x), y)

    one, other = (Calls(schedule="constant", ema_decay=ema_decay) for ema_decay in (0.0, 0.5))
    fit(one)
    fit(other)
    assert same(one.network.state_dict(), other.network.state_dict())
    assert not same(one.network.state_dict(), MNISTModule().network.state_dict())  # the control
    images = torch.randint(0, 256, (4, 28, 28), dtype=torch.uint8)
    assert other.ema is not None
    assert other.train()(images).equal(MNISTModule.forward(other.eval(), images))
    assert not other(images).equal(one(images))


def test_a_module_that_was_frozen_and_unfrozen_trains_without_gradients_of_the_average() -> None:
    module, other = (MNISTModule(schedule="constant", ema_decay=0.5) for _ in range(2))
    module.freeze()
    module.unfreeze()
    fit(module)
    assert module.ema is not None
    assert not any(p.requires_grad for p in module.ema.parameters())
    assert all(p.requires_grad for p in module.network.parameters())
    fit(other)
    assert same(module.state_dict(), other.state_dict())


class OwnStep(MNISTModule):
    """Takes the optimizer's step as Lightning's documentation shows it."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)


class Manual(MNISTModule):
    """Lightning's manual optimization."""

    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        loss, _ = self.training_loss(batch, batch_idx)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


@pytest.mark.parametrize("module_class", [OwnStep, Manual])
def test_the_ema_follows_steps_that_a_subclass_takes(module_class: type[MNISTModule]) -> None:
    ours, other = (kind(schedule="constant", ema_decay=0.5) for kind in (MNISTModule, module_class))
    for _ in range(2):  # a second fit must not count its steps twice
        fit(ours, max_epochs=1)
        fit(other, max_epochs=1)
        assert same(ours.state_dict(), other.state_dict())


def test_in_evaluation_nothing_is_dropped() -> None:
    module = MNISTModule(dropout=0.9)
    fit(module, max_epochs=1)
    network = TutorialCNN()
    network.load_state_dict(module.network.state_dict())
    images = torch.randint(0, 256, (32, 28, 28), dtype=torch.uint8)
    module.eval()
    for some in (images, images[:3]):  # as many as in a training batch, and fewer
        torch.testing.assert_close(module(some), network(standardize(some)))


class Accumulate(Callback):
    """Accumulates two batches from the second epoch on."""

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.accumulate_grad_batches = 1 + (trainer.current_epoch > 0)


def test_sam_is_refused_where_a_callback_begins_to_accumulate_batches() -> None:
    module = MNISTModule(schedule="constant", sam_rho=0.1)
    with pytest.raises(InputError, match=r"^model\.sam_rho: expected 0 where trainer\.accumulate_grad_batches"):
        fit(module, callbacks=[Accumulate()], max_epochs=2)
    assert module.trainer.current_epoch == 1


@pytest.mark.parametrize("options", [{"schedule": "linear"}, {"schedule": "constant", "sam_rho": 0.1}])
@pytest.mark.filterwarnings("ignore:When using `Trainer.accumulate_grad_batches")  # the scheduler sets it
def test_epochs_of_different_numbers_of_steps_need_a_constant_schedule(options: dict[str, Any]) -> None:
    known = not options.get("sam_rho")
    cases: list[tuple[dict[int, int], dict[str, Any], bool]] = [
        ({0: 4, 1: 1}, {"max_epochs": 2}, False),
        ({0: 4, 2: 1}, {"max_epochs": 2}, known),
        ({0: 4, 1: 1}, {"max_epochs": -1, "max_steps": 7}, known),
    ]
    for scheduling, length, works in cases:
        with contextlib.nullcontext() if works else pytest.raises(InputError, match="accumulate_grad_batches"):
            trainer = fit(MNISTModule(**options), callbacks=[GradientAccumulationScheduler(scheduling)], **length)
            assert trainer.optimizers[0].param_groups[0]["lr"] == 0


class Without(MNISTModule):
    """Overrides a hook that is empty in Lightning, and so does not call `super()`."""

    def on_train_start(self) -> None:
        self.train()


def test_a_subclass_need_not_call_lightnings_empty_hooks(tmp_path: Path) -> None:
    options: dict[str, Any] = {**RECIPES["muon"], "schedule": "linear", "init_from": str(PRETRAINED_DIR / "model.ckpt")}
    ours, other = MNISTModule(**options), Without(**options)
    for _ in range(2):  # fits
        for module in (ours, other):
            fit(module)
        assert same(ours.state_dict(), other.state_dict())
    assert other.trainer.optimizers[0].param_groups[0]["lr"] == 0


class OwnLoop(Without):
    """Does not call any of our hooks with manual optimization, either."""

    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        x, y = batch
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(F.nll_loss(self(x), y))
        optimizer.step()


def test_the_ema_follows_a_subclass_that_calls_none_of_our_hooks() -> None:
    module = OwnLoop(ema_decay=0.5)
    fit(module)
    images = torch.randint(0, 256, (4, 28, 28), dtype=torch.uint8)
    assert module.ema is not None
    assert not same(module.ema.state_dict(), MNISTModule().network.state_dict())
    assert module(images).equal(log_probabilities(module.ema, images, 10))


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")  # Lightning's
def test_a_fit_in_evaluation_mode_trains_the_network_as_well() -> None:
    ours, other = MNISTModule(ema_decay=0.5), MNISTModule(ema_decay=0.5).eval()
    for module in (ours, other):
        fit(module)
    assert same(ours.state_dict(), other.state_dict())


class TwoPasses(MNISTModule):
    """Averages two passes, so that each needs random numbers of its own."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (super().forward(images) + super().forward(images)) / 2


def test_several_passes_of_a_subclass_drop_the_same_features_in_each_run() -> None:
    runs: list[dict[str, Any]] = []
    for number in (0, 0, 1):
        module = TwoPasses(dropout=0.5, seed=number)
        torch.manual_seed(len(runs))
        fit(module)
        runs.append(module.state_dict())
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


class OwnEvaluation(MNISTModule):
    """Counts its own score instead of ours."""

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        x, y = batch
        self.log("val/right", (self(x).argmax(dim=1) == y).float().mean(), batch_size=len(y))

    def test_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        x, y = batch
        self.log("test/right", (self(x).argmax(dim=1) == y).float().mean(), batch_size=len(y))


def test_a_subclass_may_evaluate_in_its_own_way() -> None:
    ours, other = MNISTModule(), OwnEvaluation()
    scores = [dict(fit(module, limit_val_batches=1.0).callback_metrics) for module in (ours, other)]
    assert scores[1]["val/right"].item() == pytest.approx(scores[0]["val/acc"].item())
    assert "val/acc" not in scores[1]
    assert scores[1]["train/loss"].equal(scores[0]["train/loss"])
    trainer = plain.trainer()
    assert {*trainer.test(other, datamodule=data(), verbose=False)[0]} == {"test/right"}


class WithHead(MNISTModule):
    """Has another layer in `forward`, and a loss under the name that most modules use."""

    def __init__(self) -> None:
        super().__init__(optimizer="adamw", lr=0.01, schedule="constant")
        self.head = torch.nn.Linear(10, 10)
        self.loss = torch.nn.NLLLoss()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.log_softmax(self.head(super().forward(images)), dim=1)


class WithTrainedHead(WithHead):
    """Trains that layer as well."""

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def test_lightning_knows_an_example_of_the_input() -> None:
    summary = ModelSummary(MNISTModule())
    assert (summary.in_sizes[0], summary.out_sizes[0]) == ([1, 1, 28, 28], [1, 10])


def test_training_uses_the_forward_of_a_subclass() -> None:
    module = WithTrainedHead()
    before = module.head.weight.clone()
    fit(module)
    assert not module.head.weight.equal(before)
    images = data()
    images.setup()
    x, y = standardize(images.in_memory.test_images), images.in_memory.test_labels
    assert module.loss(module(x), y).isfinite()


def test_trainable_parameters_without_an_optimizer_are_reported() -> None:
    module = WithHead()
    with pytest.warns(UserWarning, match=r"^no optimizer has head\.weight, head\.bias; freeze these parameters, or"):
        fit(module, max_epochs=1)
    module.head.requires_grad_(False)
    fit(module, max_epochs=1)  # warnings are errors


class TwoSchedules(MNISTModule):
    """Has another scheduler beside ours."""

    def configure_optimizers(self) -> Any:
        ours = super().configure_optimizers()
        other = torch.optim.lr_scheduler.StepLR(ours["optimizer"], step_size=100)
        return [ours["optimizer"]], [ours["lr_scheduler"], other]


def test_our_schedule_works_beside_another_one() -> None:
    ours, other = MNISTModule(), TwoSchedules()
    for module in (ours, other):
        fit(module)
    assert same(ours.state_dict(), other.state_dict())


def test_the_seed_is_lightnings_by_default() -> None:
    weights = {}
    for seed in (None, 0, 1):
        if seed is not None:
            pl.seed_everything(seed, verbose=False)
        module, images = MNISTModule(), data()
        assert module.hparams["seed"] == images.seed == images.hparams["seed"] == (seed or 0)
        weights[seed] = module.network.state_dict()
    assert same(weights[None], weights[0])
    assert not same(weights[0], weights[1])
    assert same(weights[0], MNISTModule(seed=0).network.state_dict())
    tuned = WithSeed()
    assert tuned.hparams["seed"] == 1


class WithSeed(MNISTModule):
    """Passes the seed on."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed=seed)


def test_weights_set_by_hand_are_evaluated_until_they_are_averaged() -> None:
    module, source = MNISTModule(ema_decay=0.9), MNISTModule(ema_decay=0.9, seed=1)
    assert module.ema is not None
    assert source.ema is not None
    module.network.load_state_dict(source.network.state_dict())
    images = torch.randint(0, 256, (4, 28, 28), dtype=torch.uint8)
    loaded, partly = MNISTModule(ema_decay=0.9), MNISTModule(ema_decay=0.9)
    loaded.load_state_dict(module.state_dict())
    partly.load_state_dict(MNISTModule(seed=1).state_dict(), strict=False)
    assert all(each(images).equal(source(images)) for each in (module, loaded, partly))
    fit(source)
    module.load_state_dict(source.state_dict())
    assert not same(module.network.state_dict(), module.ema.state_dict())
    assert module(images).equal(log_probabilities(module.ema, images, 10))


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_a_training_step_of_ones_own_and_monte_carlo_dropout_drop_features(ema_decay: float) -> None:
    module = MNISTModule(dropout=0.5, ema_decay=ema_decay).train()
    images = torch.randint(0, 256, (32, 28, 28), dtype=torch.uint8)
    for network in (module, module.network):
        x = images if network is module else standardize(images)
        passes = [network(x) for _ in range(2)]
        assert not passes[0].equal(passes[1])
    features = module.network.get_submodule("dropout")(torch.ones(1000, 100))
    assert {*features.unique().tolist()} == {0.0, 2.0}
    assert features.mean() == pytest.approx(1, abs=0.02)


def test_scores_match_a_hand_count() -> None:
    module, datamodule = MNISTModule(), data()
    trainer = plain.trainer()
    trainer.test(module, datamodule=datamodule, verbose=False)
    images, labels = datamodule.in_memory.test_images, datamodule.in_memory.test_labels
    with torch.no_grad():
        log_probs = module(images)
    predicted, probs = log_probs.argmax(dim=1), log_probs.exp().amax(dim=1)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert scores["test/acc"] == pytest.approx(float((predicted == labels).double().mean()))
    assert scores["test/loss"] == pytest.approx(float(F.nll_loss(log_probs, labels)), rel=1e-5)
    for label in range(10):
        assert scores[f"test/class_acc/{label}"] == pytest.approx(
            float((predicted[labels == label] == label).double().mean())
        )
    confusion = [[int(((labels == i) & (predicted == j)).sum()) for j in range(10)] for i in range(10)]
    assert module.confusion is not None
    assert module.confusion.tolist() == confusion
    bins = (probs * 15).ceil()
    gaps = [
        (
            float((predicted == labels)[bins == b].double().mean() - probs[bins == b].double().mean()),
            int((bins == b).sum()),
        )
        for b in bins.unique()
    ]
    assert scores["test/ece"] == pytest.approx(sum(abs(gap) * count for gap, count in gaps) / len(labels), abs=1e-5)


def test_training_scores_count_the_augmented_training_images_and_no_others() -> None:
    module, datamodule = MNISTModule(lr=1e-12), data()  # too small a rate to change the weights
    trainer = fit(module, datamodule, max_epochs=2, limit_val_batches=1.0, val_check_interval=0.5)
    loader = datamodule.train_dataloader()
    loader.set_epoch(1)
    inputs, labels = (torch.cat(column) for column in zip(*loader, strict=True))
    with torch.no_grad():
        log_probs = module(inputs)
    scores = trainer.callback_metrics
    assert float(scores["train/acc"]) == pytest.approx(float((log_probs.argmax(dim=1) == labels).double().mean()))
    assert float(scores["train/loss"]) == pytest.approx(float(F.nll_loss(log_probs, labels)), rel=1e-5)
    assert float(scores["val/loss"]) != float(scores["train/loss"])


def test_a_schedule_without_an_end_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="linear needs an end"):
        fit(MNISTModule(schedule="linear"), max_epochs=-1, max_time="00:00:00:01")


def test_sam_with_accumulated_batches_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.sam_rho: expected 0"):
        fit(MNISTModule(sam_rho=0.1), accumulate_grad_batches=2)


@pytest.mark.parametrize(
    "options",
    [{"lr": 0.0}, {"lr": math.nan}, {"lr": 1e300}, {"aux_lr": 1e39}, {"momentum": 1.0}, {"dropout": 1.0},
     {"ema_decay": -0.1}, {"warmup": 2.0}, {"momentum": 0.0, "nesterov": True}, {"num_classes": 1},
     {"step_size": 0}, {"weight_decay": -1.0},
     {"sam_rho": math.inf}, {"num_classes": 10_001}, {"weight_decay": 1e39}, {"gamma": 1e300}, {"gamma": 0.0}],
    ids=str,
)  # fmt: skip
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"model.{next(iter(options))}: expected"):
        MNISTModule(**options)


def test_hyperparameters_are_plain_scalars_and_strings() -> None:
    assert all(isinstance(value, int | float | str | None) for value in MNISTModule().hparams.values())
    assert all(isinstance(value, int | float | str) for value in data().hparams.values())


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_logged_learning_rate_is_the_one_used(accumulated: int, tmp_path: Path) -> None:
    used: list[float] = []

    class Watch(pl.Callback):
        def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
            used.append(optimizer.param_groups[0]["lr"])

    logger = pl.loggers.CSVLogger(tmp_path, name="", version="")
    options: dict[str, Any] = {"accumulate_grad_batches": accumulated, "callbacks": [Watch()]}
    trainer = fit(MNISTModule(**RECIPES["sgd"]), logger=logger, log_every_n_steps=1, **options)
    with tmp_path.joinpath("metrics.csv").open() as file:
        logged = [float(row["lr"]) for row in csv.DictReader(file) if row["lr"]]
    assert logged == pytest.approx(used)
    steps = 2 * math.ceil(5 / accumulated)
    h = {"schedule": "linear", "warmup": 0.3}
    assert used == pytest.approx([0.05 * lr_factor(h, step, steps, steps // 2) for step in range(steps)])
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0  # after the last step


class Stream:
    """Batches whose number is not known in advance."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = list(batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class Loader(Stream):
    """Batches in memory; Lightning would take a list for several loaders."""

    def __len__(self) -> int:
        return len(self.batches)


def test_any_loader_of_inputs_and_labels_trains_and_scores_alike() -> None:
    datamodule = MNISTDataModule(dataset="digits", val_size=1277, batch_size=32)
    datamodule.setup()
    train, val = list(datamodule.train_dataloader()), list(datamodule.val_dataloader())[:3]
    ours, theirs, untrained = (MNISTModule(lr=0.05, seed=1) for _ in range(3))
    scores = []
    kinds: tuple[Callable[[Any], Any], ...] = (lambda batch: batch, tuple)
    for module, kind in zip((ours, theirs), kinds, strict=True):
        trainer = plain.trainer(num_sanity_val_steps=0)
        trainer.fit(module, Loader(map(kind, train)), Loader(map(kind, val)))
        assert trainer.global_step == 5
        scores.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert same(ours.network.state_dict(), theirs.network.state_dict())
    assert not same(ours.network.state_dict(), untrained.network.state_dict())
    assert scores[0] == scores[1]
    assert {"train/acc", "val/acc", "val/class_acc/9"} <= scores[0].keys()


@pytest.mark.parametrize(
    ("schedule", "limits", "line"),
    [
        ("constant", {}, ""),
        ("linear", {"max_steps": 5}, ""),
        ("step", {"limit_train_batches": 5}, ""),
        ("linear", {}, r"^model\.schedule: linear needs an end; set trainer\.max_steps$"),
        ("step", {}, r"^model\.schedule: step needs epochs of a known length; set trainer\.limit_train_batches$"),
    ],
)
def test_a_loader_without_a_length_trains_if_the_schedule_needs_none(
    schedule: Any, limits: dict[str, Any], line: str
) -> None:
    datamodule = data()
    datamodule.setup()
    loaders = Stream(datamodule.train_dataloader()), Stream(datamodule.val_dataloader())
    trainer = plain.trainer(num_sanity_val_steps=0, **limits)
    with pytest.raises(InputError, match=line) if line else contextlib.nullcontext():
        trainer.fit(MNISTModule(schedule=schedule), *loaders)
    assert (trainer.global_step > 0) == (not line)


def test_plain_trainers_return_test_scores_and_predictions() -> None:
    module, datamodule = MNISTModule(), data()
    trainer = plain.trainer()
    (scores,) = trainer.test(module, datamodule=datamodule, verbose=False)
    images, labels = datamodule.in_memory.test_images, datamodule.in_memory.test_labels
    parts: Any = trainer.predict(module, datamodule=datamodule)
    probs = torch.cat(parts)
    with torch.no_grad():
        torch.testing.assert_close(probs, module(images).exp())
    assert scores["test/acc"] == pytest.approx(float((probs.argmax(dim=1) == labels).double().mean()))


def test_forward_takes_8_bit_images_or_standardized_ones(images: torch.Tensor) -> None:
    module = MNISTModule()
    expected = tutorial_network(module)(standardize(images))
    assert module(images).equal(module(standardize(images)))
    torch.testing.assert_close(module(images), expected)
    assert not torch.allclose(module(images), module(standardize(255 - images)))


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 28, 28), torch.zeros(2, 3, 28, 28), torch.zeros(2, 1, 28, 28, dtype=torch.int64)],
    ids=["no channel", "colors", "whole numbers"],
)
def test_forward_says_which_images_it_takes(images: torch.Tensor) -> None:
    expected = r"^expected standardized float \(B, 1, 28, 28\) or uint8 \(B, 28, 28\), got "
    got = re.escape(f"{images.dtype} {tuple(images.shape)}")
    with pytest.raises(InputError, match=f"{expected}{got}$"):
        MNISTModule()(images)


def saved_by_a_fit(module: MNISTModule, path: Path) -> dict[str, Any]:
    """A checkpoint of one epoch by a plain Trainer."""
    fit(module, max_epochs=1, enable_checkpointing=True, callbacks=[EveryStep(path.parent)])
    content: dict[str, Any] = torch.load(path.parent / "step=5.ckpt", weights_only=True)
    torch.save(content, path)
    return content


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_checkpoint_slimmed_down_for_sharing_loads_with_what_is_evaluated(ema_decay: float, tmp_path: Path) -> None:
    module = MNISTModule(ema_decay=ema_decay)
    content = saved_by_a_fit(module, tmp_path / "a.ckpt")
    slim = strip_for_sharing(content)
    assert "train_scores" not in slim
    assert not [name for name in slim["state_dict"] if name.startswith("ema.")]
    torch.save(slim, tmp_path / "slim.ckpt")
    loaded = MNISTModule.load_from_checkpoint(tmp_path / "slim.ckpt", weights_only=True)
    assert loaded.hparams == module.hparams
    evaluated = module.ema or module.network
    assert same(loaded.network.state_dict(), evaluated.state_dict())
    assert (loaded.ema is None) == (not ema_decay)
    if loaded.ema:
        assert same(loaded.ema.state_dict(), evaluated.state_dict())
        assert not same(loaded.ema.state_dict(), module.network.state_dict())  # the control
    whole = MNISTModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert same(whole.state_dict(), module.state_dict())


def test_without_ema_a_checkpoint_with_it_loads_what_is_evaluated_but_is_not_resumed(tmp_path: Path) -> None:
    module = MNISTModule(ema_decay=0.9)
    saved_by_a_fit(module, path := tmp_path / "a.ckpt")
    loaded = MNISTModule.load_from_checkpoint(path, weights_only=True, ema_decay=0.0)
    assert module.ema is not None
    assert loaded.ema is None
    assert same(loaded.network.state_dict(), module.ema.state_dict())
    assert not same(loaded.network.state_dict(), module.network.state_dict())  # the control
    with pytest.raises(RuntimeError, match="Unexpected key"):
        fit(MNISTModule(), ckpt_path=path)


def test_lightnings_own_loading_refuses_too_many_classes(tmp_path: Path) -> None:
    content = load_checkpoint(PRETRAINED_DIR / "model.ckpt")
    content["hyper_parameters"]["num_classes"] = 10**7
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"model\.num_classes"):
        MNISTModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)


def test_a_network_with_a_mask_of_infinities_is_loaded(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    network.register_buffer("mask", torch.tensor([0, -math.inf]))
    saved_by_a_fit(MNISTModule(network=network), tmp_path / "a.ckpt")
    loaded = MNISTModule.load_from_checkpoint(tmp_path / "a.ckpt", network=copy.deepcopy(network), weights_only=True)
    assert loaded.state_dict()["network.mask"].equal(torch.tensor([0, -math.inf]))


def test_loading_a_checkpoint_replaces_what_was_counted(tmp_path: Path) -> None:
    content = saved_by_a_fit(MNISTModule(), tmp_path / "a.ckpt")
    batch = Batch(torch.zeros(4, 1, 28, 28), torch.arange(4), torch.arange(4), 4, 0)

    def counted(module: MNISTModule) -> int:
        return int(states(module.train_metrics)["loss"]["count"])

    module = MNISTModule()
    module.train_metrics.update(module(batch.inputs), batch.labels)
    assert counted(module) == 4
    module.on_load_checkpoint(copy.deepcopy(content))
    assert counted(module) == sum(int(state["loss"]["count"]) for state in content["train_scores"])
    without = {name: value for name, value in content.items() if name != "train_scores"}
    module.train_metrics.update(module(batch.inputs), batch.labels)
    module.on_load_checkpoint(without)
    assert counted(module) == 0
    assert without["state_dict"].keys() == module.state_dict().keys()


class Counts(pl.Callback):
    """The images that training has counted by each epoch's end; or stop within the first epoch."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at, self.counts = fails_at, list[int]()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == self.fails_at:
            raise RuntimeError("stopped")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.counts.append(int(states(pl_module.train_metrics)["loss"]["count"]))


@pytest.mark.parametrize("earlier", ["a checkpoint", "a fit that failed", "a resume that failed"])
def test_a_fit_from_scratch_counts_each_image_once_whatever_came_before(earlier: str, tmp_path: Path) -> None:
    module = MNISTModule()
    fit(module, max_epochs=1, enable_checkpointing=True, callbacks=[EveryStep(tmp_path)])
    stopped = tmp_path / "step=3.ckpt"
    if earlier == "a checkpoint":
        module = MNISTModule.load_from_checkpoint(stopped, weights_only=True)
    else:
        resumed = stopped if "resume" in earlier else None
        with pytest.raises(RuntimeError, match="stopped"):
            fit(module, ckpt_path=resumed, callbacks=[Counts(fails_at=4 if resumed else 3)])
    for ckpt_path in (None, stopped):
        counts = Counts()
        fit(module, ckpt_path=ckpt_path, callbacks=[counts])
        assert counts.counts == [40, 40]


@pytest.mark.parametrize("network", [3, TutorialCNN().forward])
def test_what_is_not_a_module_is_not_replaced_by_the_tutorials_network(network: Any) -> None:
    with pytest.raises(InputError, match=r"^network: expected a torch\.nn\.Module, got (int|method)$"):
        MNISTModule(network=network)


def test_several_loaders_are_predicted_one_by_one(digits_data: MNISTDataModule) -> None:
    digits_data.setup()
    loaders = [digits_data.val_dataloader(), digits_data.test_dataloader()]
    parts: Any = plain.trainer().predict(MNISTModule(), loaders)
    assert [sum(map(len, part)) for part in parts] == [len(digits_data.val_indices), 360]


def test_scores_of_a_half_precision_network_are_summed_in_single_precision() -> None:
    torch.manual_seed(0)
    module, data = MNISTModule(), plain.digits(batch_size=4)
    (scores,) = plain.trainer(precision="bf16-true").validate(module, data, verbose=False)
    with torch.no_grad():
        outputs = module.eval()(data.in_memory.train_images[data.val_indices]).float()
    expected = F.nll_loss(outputs, data.in_memory.train_labels[data.val_indices])
    assert scores["val/loss"] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_adamw_in_float16_is_refused(optimizer: OptimizerName) -> None:
    trainer = plain.trainer(precision="16-true", limit_train_batches=1, limit_val_batches=0)
    with pytest.raises(InputError, match=rf"optimizer: expected sgd with weights in float16.*, got {optimizer}"):
        trainer.fit(MNISTModule(optimizer=optimizer), plain.digits(batch_size=2))


def test_a_module_without_a_trainer_can_be_saved() -> None:
    module, trainer = MNISTModule(ema_decay=0.9), plain.trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint("untrained.ckpt")
    again = MNISTModule.load_from_checkpoint("untrained.ckpt", weights_only=True)
    assert all(map(torch.equal, module.state_dict().values(), again.state_dict().values()))
    content = load_checkpoint("untrained.ckpt")
    assert config_of(content)["model"]["ema_decay"] == 0.9
    assert Metadata.of(content).classes == tuple("0123456789")


def test_weights_in_half_precision_have_no_average(digits_data: MNISTDataModule) -> None:
    with pytest.raises(InputError, match=r"ema_decay: expected 0 with weights in half precision.*, got 0\.998"):
        plain.trainer(precision="bf16-true").fit(MNISTModule(ema_decay=0.998), digits_data)
