"""A plain `L.Trainer`, as in a script or a notebook: our module, data, callbacks and checkpoints without the CLI."""

import copy
import itertools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.distributed as dist
import yaml
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.core.saving import load_hparams_from_yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.tuner.tuning import Tuner
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from mnist_lit.callbacks.checkpoints import SaveBestAndLast, TrackBest
from mnist_lit.callbacks.figures import TensorBoardFigures
from mnist_lit.callbacks.predictions import WritePredictions
from mnist_lit.callbacks.progress import FitLines
from mnist_lit.callbacks.stopping import StopOnDivergence, StopOnSignal
from mnist_lit.callbacks.tables import ScoreTable
from mnist_lit.cli.main import main
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.model import standardize
from mnist_lit.module import MNISTModule
from mnist_lit.runs.locate import PRETRAINED_DIR
from mnist_lit.runs.results import read_predictions
from mnist_lit.runs.start import RunStart
from mnist_lit.system.console import percent
from plain import digits, trainer

Cli = Callable[..., tuple[int, str, str]]
pytestmark = [
    pytest.mark.usefixtures("small_calibration"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*GPU available", "ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:.*Skipping val loop"),
]


class Mine(L.LightningModule):
    """Somebody's own module, which knows nothing about ours."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.layer(x.flatten(1)), y)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("acc", (self.layer(x.flatten(1)).argmax(dim=1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_module_of_ones_own_learns_from_our_batches() -> None:
    torch.manual_seed(0)
    module, data, plain = Mine(), digits(), trainer(max_epochs=3)
    plain.fit(module, data)
    assert plain.test(module, data, verbose=False)[0]["acc"] > 0.8


class FailsAtStep(L.Callback):
    """Saves a checkpoint at a step before its batch is trained, and fails."""

    def __init__(self, step: int, hook: str) -> None:
        self.step = step
        setattr(self, hook, self._fail)

    def _fail(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint("failed.ckpt")
            raise RuntimeError("planted")


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_after_backward"])
@pytest.mark.parametrize("module_class", [MNISTModule, Mine])
def test_a_checkpoint_saved_on_an_error_within_a_step_resumes_with_that_steps_batch(
    module_class: type[L.LightningModule], hook: str
) -> None:
    """The same weights, and the same scores: the batch is counted once."""

    def fitted(start: L.LightningModule, *callbacks: L.Callback, ckpt_path: str | None = None) -> L.Trainer:
        options: dict[str, Any] = {"max_epochs": 2, "limit_train_batches": 4, "limit_val_batches": 0}
        plain = trainer(**options, callbacks=[*callbacks])
        plain.fit(start, digits(), ckpt_path=ckpt_path, weights_only=True)
        return plain

    first = module_class()
    one, two = copy.deepcopy(first), copy.deepcopy(first)
    uninterrupted = fitted(first)
    with pytest.raises(RuntimeError, match="planted"):
        fitted(one, FailsAtStep(6, hook))
    resumed = fitted(two, ckpt_path="failed.ckpt")
    for name, value in first.state_dict().items():
        assert value.equal(two.state_dict()[name])
    assert {*resumed.callback_metrics} == {*uninterrupted.callback_metrics}
    for name, score in uninterrupted.callback_metrics.items():
        assert score.equal(resumed.callback_metrics[name]), name


def test_module_and_data_can_be_pickled_after_a_fit() -> None:
    module, data = MNISTModule(optimizer="adamw", ema_decay=0.9, dropout=0.1), digits()
    trainer(limit_train_batches=2, limit_val_batches=1).fit(module, data)
    again, data_again = pickle.loads(pickle.dumps(module)), pickle.loads(pickle.dumps(data))
    for name, value in module.state_dict().items():
        assert value.equal(again.state_dict()[name])
    for one in (module, again):
        trainer(limit_train_batches=2, limit_val_batches=1).fit(one, data_again)
    for name, value in module.state_dict().items():
        assert value.equal(again.state_dict()[name])


def test_scores_are_returned_and_predictions_are_probabilities() -> None:
    module, data, plain = MNISTModule(optimizer="adamw", lr=0.003), digits(), trainer(limit_train_batches=6)
    plain.fit(module, data)
    test, val = plain.test(module, data, verbose=False)[0], plain.validate(module, data, verbose=False)[0]
    assert {"test/acc", "test/loss", "test/ece"} < {*test}
    assert {"val/acc", "val/loss"} < {*val}
    probabilities = torch.cat(plain.predict(module, data))  # type: ignore[arg-type]
    assert probabilities.shape == (360, 10)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(360), atol=1e-5)
    right = (probabilities.argmax(dim=1) == data.in_memory.test_labels).float().mean()
    assert float(right) == pytest.approx(test["test/acc"])


def test_the_shipped_model_loads_by_lightnings_own_method_and_scores_as_published() -> None:
    module = MNISTModule.load_from_checkpoint(PRETRAINED_DIR / "model.ckpt")
    assert trainer().test(module, digits(), verbose=False)[0]["test/acc"] > 0.9


@pytest.mark.slow
def test_a_checkpoint_saved_in_a_notebook_works_with_every_command(cli: Cli) -> None:
    module, data = MNISTModule(optimizer="adamw", lr=0.003, ema_decay=0.9), digits()
    plain = trainer(limit_train_batches=2)
    plain.fit(module, data)
    score = plain.test(module, data, verbose=False)[0]["test/acc"]
    plain.save_checkpoint("mine.ckpt")
    again = MNISTModule.load_from_checkpoint("mine.ckpt")
    assert again.ema is not None
    assert plain.test(again, data, verbose=False)[0]["test/acc"] == score
    code, out, _ = cli("test", "mine.ckpt")
    assert code == 0
    assert percent(score, 360) in out
    for command in (("export", "mine.ckpt"), ("calibrate", "mine.ckpt")):
        code, _, err = cli(*command)
        assert code == 0, err
    more = (
        "--data.dataset",
        "digits",
        "--data.val_size",
        "180",
        "--data.batch_size",
        "64",
        "--trainer.max_epochs",
        "2",
    )
    assert "(4 steps)" in cli("fit", "--ckpt_path", "mine.ckpt", *more, "--trainer.limit_train_batches", "2")[1]
    fresh = (*more, "--model.init_from", "mine.ckpt", "--trainer.limit_train_batches", "1", "--trainer.max_epochs", "1")
    assert cli("fit", *fresh)[0] == 0


@pytest.mark.slow
def test_a_checkpoint_saved_in_a_notebook_can_be_reported(cli: Cli) -> None:
    plain = trainer(limit_train_batches=1)
    plain.fit(MNISTModule(), digits())
    plain.save_checkpoint("mine.ckpt")
    code, _, err = cli("report", "mine.ckpt")
    assert code == 0, err
    assert Path("report_mine.html").is_file()


def test_our_callbacks_work_without_our_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("mine")
    run.mkdir()
    tracker = TrackBest(RunStart(run))
    ours = [tracker, StopOnDivergence(), StopOnSignal(), TensorBoardFigures(), FitLines(), SaveBestAndLast(tracker)]
    data, module = digits(), MNISTModule(optimizer="adamw", lr=0.003)
    loggers = [TensorBoardLogger("logs"), CSVLogger("logs")]
    options = {"limit_train_batches": 10, "max_epochs": 2, "log_every_n_steps": 5}
    trainer(callbacks=ours, logger=loggers, enable_checkpointing=True, **options).fit(module, data)
    assert {"best.ckpt", "last.ckpt"} == {path.name for path in run.joinpath("checkpoints").iterdir()}
    assert "epoch 2/2  step 20/20" in capsys.readouterr().out
    trainer(callbacks=[ScoreTable(), WritePredictions(run / "predictions.csv")]).test(module, data, verbose=False)
    assert "most often confused with" in capsys.readouterr().out
    predictions = read_predictions(run)
    assert predictions
    assert len(predictions.labels) == 360


class Stream(IterableDataset[Any]):
    """Four batches, whose number is not known in advance."""

    def __iter__(self) -> Iterator[Any]:
        data = digits(batch_size=8)
        data.setup()
        return map(tuple, itertools.islice(data.train_dataloader(), 4))


@pytest.mark.parametrize("accumulated", [1, 3])
def test_a_loader_without_a_length_saves_after_each_epoch(accumulated: int) -> None:
    tracker, steps = TrackBest(RunStart(Path("mine"))), list[int]()
    saver, module = SaveBestAndLast(tracker), MNISTModule(schedule="constant")
    module.on_save_checkpoint = lambda _: steps.append(module.global_step)  # type: ignore[assignment,method-assign]
    options: dict[str, Any] = {"max_epochs": 2, "accumulate_grad_batches": accumulated, "enable_checkpointing": True}
    trainer(callbacks=[tracker, saver], **options).fit(module, DataLoader(Stream(), batch_size=None))
    assert steps == ([4, 8] if accumulated == 1 else [2, 4])
    assert {"last.ckpt"} == {path.name for path in Path("mine/checkpoints").iterdir()}


def test_loggers_get_the_modules_hyperparameters_and_a_seed_of_the_data_may_differ() -> None:
    loggers = [CSVLogger("csv"), TensorBoardLogger("tensorboard")]
    trainer(limit_train_batches=1, logger=loggers).fit(MNISTModule(lr=0.07, seed=1), digits(seed=2))
    for folder in ("csv", "tensorboard"):
        logged = yaml.safe_load(next(Path(folder).rglob("hparams.yaml")).read_text())
        assert (logged["lr"], logged["optimizer"], logged["seed"]) == (0.07, "sgd", 1)


def test_lightnings_csv_logger_writes_every_logged_step_at_once() -> None:
    rows: list[int] = []

    class Read(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            rows.append(len(next(Path("csv").rglob("metrics.csv")).read_text().splitlines()) - 1)

    options: dict[str, Any] = {"limit_train_batches": 3, "log_every_n_steps": 1, "callbacks": [Read()]}
    trainer(logger=CSVLogger("csv"), **options).fit(MNISTModule(), digits())
    assert rows == [1, 2, 3]


def test_logged_hyperparameters_are_those_of_the_checkpoint_and_lightning_reads_them() -> None:
    fitted, one_tenth = trainer(limit_train_batches=1, logger=CSVLogger("csv")), np.float64(0.1)
    fitted.fit(model := MNISTModule(lr=one_tenth, network=nn.Sequential(nn.Flatten(), nn.Linear(784, 10))), digits())
    fitted.save_checkpoint("mine.ckpt")
    saved = torch.load("mine.ckpt", weights_only=True)
    assert saved["hparams_name"] == "kwargs"
    assert saved["hyper_parameters"]["network"] == "torch.nn.modules.container.Sequential"
    logged = load_hparams_from_yaml(str(next(Path("csv").rglob("hparams.yaml"))))
    assert dict(logged) == saved["hyper_parameters"] == dict(model.hparams)


def test_a_loader_of_torch_trains_and_tests_with_our_module_and_callbacks() -> None:
    data = digits()
    data.setup()
    images = data.in_memory
    parts = (
        TensorDataset(standardize(images.train_images), images.train_labels),
        TensorDataset(standardize(images.test_images), images.test_labels),
    )
    torch.manual_seed(0)
    train, test = DataLoader(parts[0], batch_size=64, shuffle=True), DataLoader(parts[1], batch_size=100)
    module = MNISTModule(optimizer="muon", lr=0.02, dropout=0.1, ema_decay=0.5)
    plain = trainer(
        max_epochs=1, callbacks=[WritePredictions(Path("predictions.csv")), ScoreTable(), StopOnDivergence()]
    )
    plain.fit(module, train)
    score = plain.test(module, test, verbose=False)[0]["test/acc"]
    assert score > 0.6
    predictions = read_predictions(Path())
    assert predictions
    assert predictions.indices == list(range(360))
    assert predictions.acc == pytest.approx(score)
    plain.save_checkpoint("mine.ckpt")
    assert MNISTModule.load_from_checkpoint("mine.ckpt").hparams["num_classes"] == 10


@pytest.mark.slow
def test_the_learning_rate_finder_sweeps_the_rate_and_the_run_uses_what_it_finds() -> None:
    module, data = MNISTModule(optimizer="adamw", lr=0.003, schedule="constant"), digits(batch_size=16)
    plain = trainer(max_epochs=2, limit_val_batches=0, logger=CSVLogger("logs"), log_every_n_steps=1)
    found = Tuner(plain).lr_find(module, data, num_training=150, early_stop_threshold=None)
    assert found
    losses = torch.tensor(found.results["loss"])[15:]  # the first are smoothed over too few steps
    finite = losses[losses.isfinite()]
    early, least = finite[:15], finite.min()
    assert float(early.max() - early.min()) < 0.1  # flat near 1e-8
    assert least < early.mean() - 0.2
    assert len(finite) < len(losses) or finite[-1] > least + 0.5  # diverges
    assert module.hparams["lr"] == found.suggestion()
    plain.fit(module, data)
    optimizer: Any = module.optimizers()
    assert optimizer.param_groups[0]["lr"] == module.hparams["lr"]


def test_the_learning_rate_finder_moves_the_rate_at_every_step() -> None:
    module, rates = MNISTModule(optimizer="sgd", lr=0.05), list[float]()
    step = module.optimizer_step

    def recording_step(*args: Any, **kwargs: Any) -> None:
        rates.append(args[2].param_groups[0]["lr"])
        step(*args, **kwargs)

    module.optimizer_step = recording_step  # type: ignore[method-assign]
    plain = trainer(max_epochs=2, limit_val_batches=0, logger=CSVLogger("logs"))
    Tuner(plain).lr_find(module, digits(), min_lr=1e-6, max_lr=1e-2, num_training=12, update_attr=False)
    assert rates[0] == pytest.approx(1e-6)
    assert rates == sorted(rates)
    assert len(set(rates)) == len(rates) >= 12


class OwnSchedule(MNISTModule):
    """A subclass with its own optimizer and schedule."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)]


def test_a_subclass_trains_with_its_own_optimizer_and_rates() -> None:
    module = OwnSchedule(lr=0.3)
    plain = trainer(max_epochs=3, limit_train_batches=2, logger=CSVLogger("logs"), log_every_n_steps=1)
    plain.fit(module, digits())
    header, *rows = next(Path("logs").rglob("metrics.csv")).read_text().splitlines()
    column = header.split(",").index("lr")
    rates = [float(row.split(",")[column]) for row in rows if row.split(",")[column]]
    assert rates == [0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025]


def test_compiling_keeps_parameter_names(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, *_, **__: compiled.append(module))
    module = MNISTModule(compile=True)
    trainer(limit_train_batches=1).fit(module, digits())
    assert compiled == [module.network]
    assert "network.conv1.weight" in module.state_dict()


def test_a_compiled_module_trains_as_usual(capsys: pytest.CaptureFixture[str]) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    modules = MNISTModule(ema_decay=0.9), MNISTModule(ema_decay=0.9, cuda_graph=True)
    compiled: Any = torch.compile(modules[1], backend=backend)
    for module in (modules[0], compiled):
        trainer(limit_train_batches=8).fit(module, digits())
    assert all(map(torch.equal, modules[0].state_dict().values(), modules[1].state_dict().values()))
    assert 0 < len(graphs) < 8  # not one for every step
    assert "without a CUDA graph: the network is compiled" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter")
def test_checkpoints_of_a_plain_trainer_and_of_lightnings_cli_can_be_named_in_lightnings_cli() -> None:
    options = ["--data.dataset=digits", "--data.val_size=180", "--trainer.limit_train_batches=1"]
    options += ["--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.enable_progress_bar=false"]

    def run(*args: str) -> LightningCLI:
        quiet: dict[str, Any] = {"save_config_callback": None, "seed_everything_default": 0}
        return LightningCLI(MNISTModule, MNISTDataModule, args=[*args, *options], **quiet)

    fitted = trainer(limit_train_batches=1)
    fitted.fit(MNISTModule(lr=0.07), digits())
    fitted.save_checkpoint("mine.ckpt")
    again = run("fit", "--ckpt_path=mine.ckpt", "--trainer.max_epochs=2")
    assert again.model.hparams["lr"] == 0.07
    assert again.trainer.global_step == 2
    again.trainer.save_checkpoint("again.ckpt")
    run("test", "--ckpt_path=again.ckpt")
    assert "_instantiator" in torch.load("again.ckpt", weights_only=True)["hyper_parameters"]
    assert main(["test", "again.ckpt"]) == 0  # also a command of ours
    assert main(["fit", "--ckpt_path", "again.ckpt", "--trainer.max_epochs", "3"]) == 0


class FewArguments(MNISTModule):
    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr=lr, schedule="constant")


@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter")
def test_lightnings_cli_builds_a_subclass_with_fewer_arguments() -> None:
    options = ["--data.dataset=digits", "--data.val_size=180", "--trainer.fast_dev_run=1", "--trainer.accelerator=cpu"]
    args = ["fit", "--seed_everything=5", "--model.lr=0.03", *options]
    built = LightningCLI(FewArguments, MNISTDataModule, args=args, save_config_callback=None)
    assert (built.model.hparams["seed"], built.datamodule.seed) == (5, 5)
    assert (built.model.hparams["lr"], built.model.hparams["schedule"]) == (0.03, "constant")
    assert built.trainer.optimizers[0].param_groups[0]["lr"] == 0.03


def test_loading_a_checkpoint_for_another_number_of_classes_is_refused() -> None:
    fitted = trainer(limit_train_batches=1)
    fitted.fit(MNISTModule(), digits())
    fitted.save_checkpoint("mine.ckpt")
    with pytest.raises(InputError, match=r"^the checkpoint has 10 classes, not 5$"):
        MNISTModule.load_from_checkpoint("mine.ckpt", weights_only=True, num_classes=5)


def test_several_processes_get_no_advice_to_synchronize_our_scores_but_that_on_others() -> None:
    class Logs(L.Callback):
        def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            pl_module.log("val/mine", torch.tensor(1.0))

    dist.init_process_group("gloo", init_method=f"file://{Path.cwd()}/rendezvous", rank=0, world_size=1)
    try:
        fitted = trainer(limit_train_batches=1, limit_val_batches=1, num_sanity_val_steps=0, callbacks=[Logs()])
        with pytest.warns(UserWarning, match="recommended to use") as warned:
            fitted.fit(MNISTModule(), digits())
    finally:
        dist.destroy_process_group()
    assert [str(one.message).split("'")[1] for one in warned if "sync_dist" in str(one.message)] == ["val/mine"]
