"""What a fit refuses before its first step: callbacks, loggers, networks and trainer options, each in one line."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning_utilities.core.imports import RequirementCache

from mnist_lit.cli.main import main
from mnist_lit.runs.folders import all_runs

Cli = Callable[..., tuple[int, str, str]]
ErrorLine = Callable[..., str]

HOOKS = """
from lightning.pytorch import Callback

class Fails(Callback):
    def on_fit_start(self, trainer, pl_module):
        raise TypeError("my own bug")
"""
NETWORKS = """
import torch
from torch import nn


class Net(nn.Sequential):
    def __init__(self, width: int = 8) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))


class SevenOutputs(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 7))


class Refuses(nn.Module):
    def __init__(self) -> None:
        raise ValueError("no such width")


class TwoArguments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1))


class NotAModule:
    pass
"""


def callback(name: str, **settings: object) -> str:
    return " ".join(
        [f"--trainer.callbacks {name}", *(f"--trainer.callbacks.{key} {settings[key]}" for key in settings)]
    )


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            callback("EarlyStopping", monitor="val_loss"),
            "EarlyStopping: monitor: expected one of val/acc, val/loss, val",
        ),
        (callback("EarlyStopping", monitor="val/acc") + " --data.val_size 0", "expected one of train/acc, train/loss,"),
        (
            callback("EarlyStopping", monitor="val/acc") + " --trainer.limit_val_batches 0",
            "expected one of train/acc, train/loss,",
        ),
        (callback("EarlyStopping"), "EarlyStopping: the following arguments are required: monitor"),
        (callback("EarlyStopping", monitor="val/acc", mode="upward"), "EarlyStopping: `mode` can be min, max, got"),
        (callback("EarlyStopping", monitor="val/acc", patience="soon"), "patience: expected a whole number, got soon"),
        (callback("EarlyStoping", monitor="val/acc"), "trainer.callbacks: cannot take EarlyStoping"),
        (callback("ModelCheckpoint", monitor="accuracy"), "ModelCheckpoint: monitor: expected one of val/acc, "),
        (callback("EarlyStopping", monitor="step"), "EarlyStopping: monitor: expected one of val/acc, "),
        (
            callback("EarlyStopping", monitor="train/loss_step") + " --trainer.log_every_n_steps 1000",
            "EarlyStopping: monitor: expected one of val/acc, ",
        ),
        (callback("ModelCheckpoint", save_top_k=-5), "ModelCheckpoint: Invalid value for save_top_k=-5"),
        (callback("BatchSizeFinder"), "BatchSizeFinder: data.batch_size is part of the recipe"),
        (
            callback("LearningRateFinder"),
            "LearningRateFinder: expected a run of at least 100 steps (num_training_steps)",
        ),
        (callback("LearningRateFinder", num_training_steps=0), "num_training_steps: expected 20 or more, got 0"),
        (
            callback("LearningRateMonitor", logging_interval="hour"),
            "logging_interval: expected step or epoch, got hour",
        ),
        (
            callback("GradientAccumulationScheduler", scheduling="'{1: 2}'") + " --trainer.max_epochs 2",
            "use trainer.accumulate_grad_batches",
        ),
        ("--model.seed 7", "model.seed: follows seed_everything; set that instead"),
        ("--data.seed 7", "data.seed: follows seed_everything; set that instead"),
        ("--model.num_classes 7", "model.num_classes: follows the data; leave it out"),
        (callback("StochasticWeightAveraging"), "the following arguments are required: swa_lrs"),
        (callback("StochasticWeightAveraging", swa_lrs=-1), "StochasticWeightAveraging: The `swa_lrs` should"),
        (callback("StochasticWeightAveraging", swa_lrs=0.1) + " --model.ema_decay 0.9", "weights are averaged already"),
        (callback("BackboneFinetuning"), "BackboneFinetuning: needs a module with a `backbone`"),
        (callback("Timer", duration="yesterday"), "Timer: `Timer(duration='yesterday')` is not a valid duration"),
        (callback("ModelPruning"), "ModelPruning: the following arguments are required: pruning_fn"),
        (callback("ModelPruning", pruning_fn="l1_unstructured"), "ModelPruning: cannot prune the tutorial's network"),
        (callback("torch.nn.Linear"), "trainer.callbacks: cannot take torch.nn.Linear"),
        (callback("RichProgressBar") + " --trainer.enable_progress_bar false", "`enable_progress_bar=False` but found"),
        (callback("RichProgressBar") + " --trainer.callbacks+=TQDMProgressBar", "only one progress bar is supported"),
        ("--trainer.logger TensorBordLogger", "trainer.logger: cannot take TensorBordLogger"),
        ("--trainer.logger CSVLogger", "CSVLogger: the following arguments are required: save_dir"),
        ("--trainer.profiler fast", "it can only be one of ['simple', 'advanced', 'pytorch', 'xla']"),
        ("--trainer.strategy fsdp", "The strategy `fsdp` requires a GPU accelerator"),
        ("--trainer.devices two", "should be an int > 0"),
        *(
            (f"--trainer.strategy {name} --trainer.accelerator cpu --trainer.devices 2", "trainer.strategy: expected")
            for name in ("ddp_spawn", "ddp_fork", "ddp_notebook")
        ),
        ("--trainer.gradient_clip_val -1", "trainer.gradient_clip_val: expected 0 or more, got -1"),
        (
            "--trainer.gradient_clip_val 1 --trainer.gradient_clip_algorithm cut",
            "Allowed algorithms: ['value', 'norm']",
        ),
        ("--trainer.val_check_interval 0", "trainer.val_check_interval: expected above 0, got 0"),
        ("--trainer.val_check_interval 1.5", "invalid value 1.5 for val_check_interval"),
        ("--trainer.check_val_every_n_epoch 0", "trainer.check_val_every_n_epoch: expected 1 or more, got 0"),
        ("--trainer.log_every_n_steps -1", "trainer.log_every_n_steps: expected 0 or more, got -1"),
        ("--trainer.limit_train_batches 1.5", "invalid value 1.5 for limit_train_batches"),
        ("--trainer.limit_val_batches -1", "invalid value -1 for limit_val_batches"),
        ("--trainer.overfit_batches -3", "invalid value -3 for overfit_batches"),
        ("--trainer.max_steps 0", "nothing to train"),
        ("--trainer.max_epochs -5", "`max_epochs` must be a non-negative integer or -1"),
        ("--trainer.max_time soon", "is not a valid duration"),
        ("--trainer.fast_dev_run maybe", "trainer.fast_dev_run: expected a whole number or true or false, got maybe"),
        ("--trainer.deterministic perhaps", "trainer.deterministic: expected true or false or warn, got perhaps"),
        ("--trainer.num_nodes 0", "`num_nodes` must be a positive integer"),
        ("--trainer.plugins magic", "trainer.plugins: cannot take magic"),
        (
            "--trainer.callbacks EarlyStoping",
            "cannot take EarlyStoping; did you mean EarlyStopping?",
        ),
        ("--trainer.callbacks nowhere.Mine", "'nowhere'; if it is in the working directory, set PYTHONPATH=."),
        ("--trainer.barebones true", "trainer.barebones: only in Python"),
        ("--trainer.limit_train_batches 0", "trainer.limit_train_batches: expected above 0, got 0\n"),
        ("--trainer.limit_train_batches 0.0", "trainer.limit_train_batches: expected above 0, got 0.0\n"),
        ("--model.network networks.Nope", "Nope: module 'networks' has no attribute 'Nope'"),
        ("--model.network networks.py", "expected a class, such as my_package.MyNet, got the file networks.py"),
        ("--model.network nowhere.Net", "Net: No module named 'nowhere'"),
        (
            "--model.network networks.NotAModule",
            "model.network: Import path does not correspond to a subclass of Module",
        ),
        ("--model.network networks.Net --model.network.depth 3", "Net: Option 'depth' is not accepted\n"),
        (
            "--model.network networks.Net --model.network.widht 3",
            "Net: Option 'widht' is not accepted; did you mean width?",
        ),
        (
            "--model.network networks.Net --model.network.width wide",
            "model.network.width: expected a whole number, got w",
        ),
        ("--model.network networks.SevenOutputs", "expected outputs (2, 10) for 2 images, got (2, 7)"),
        ("--model.network networks.Refuses", "Refuses: no such width"),
        ("--model.network networks.TwoArguments", "forward() missing 1 required positional argument"),
        ("--model.network networks.Net --model.dropout 0.1", "model.dropout: expected 0 for a network of your own"),
        ("--model.network networks.Net --model.init_from pretrained", "pretrained does not match this network"),
        ("--model.network torch.nn.Linear", "Linear: the following arguments are required: in_features, out_features"),
        ("--model.compile maybe", "model.compile: expected true or false, got maybe"),
        ("--data.fraction 0", "data.fraction: expected a fraction in (0, 1], got 0.0"),
        ("--data.per_class 1000", "data.per_class: expected at most 133, as many as each class has, got 1000"),
        ("--data.per_class 5 --data.fraction 0.5", "data.per_class: expected 0 with data.fraction, got 5"),
        ("--data.classes 3", "data.classes: expected two or more different classes, got 3"),
        ("--data.classes 3,x", "data.classes: expected some of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, got x"),
        ("--data.split letters", "data.split: expected balanced unless data.dataset is emnist, got letters"),
        (
            "--data.dataset qmnist --data.mirrors http://x",
            "data.mirrors: expected none, since torchvision downloads this dataset, got http://x",
        ),
        ("--optimizer Adam", "unknown option --optimizer; did you mean --model.optimizer?"),
        ("--lr_scheduler StepLR", "unknown option --lr_scheduler; did you mean --model.schedule?"),
        ("--ckpt_path latst", "no model at latst; did you mean latest?"),
        ("--ckpt_path pretrained", "cannot be resumed; start from it with --model.init_from pretrained"),
    ],
)
def test_a_wrong_lightning_option_gives_one_line_and_leaves_no_run(
    error_line: ErrorLine, tiny_fit: tuple[str, ...], options: str, line: str
) -> None:
    Path("networks.py").write_text(NETWORKS)
    assert line in error_line(*tiny_fit, "--trainer.max_epochs", "1", *shlex.split(options))
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize("resumes", [False, True])
def test_a_bug_in_a_callback_of_ones_own_keeps_its_traceback(
    tiny_fit: tuple[str, ...], tiny_run: Path, monkeypatch: pytest.MonkeyPatch, *, resumes: bool
) -> None:
    Path("my_hooks.py").write_text(HOOKS)
    monkeypatch.syspath_prepend(Path.cwd())
    resume = ("--ckpt_path", str(tiny_run / "checkpoints/last.ckpt")) if resumes else ()
    with pytest.raises(TypeError, match="my own bug") as caught:
        main([*tiny_fit, *resume, "--trainer.max_epochs", "2", "--trainer.callbacks", "my_hooks.Fails"])
    assert str(caught.traceback[-1].path).endswith("my_hooks.py")
    assert all_runs(Path("lightning_logs")) == [tiny_run]


@pytest.mark.parametrize("name", ["psutil", "mlflow", "wandb"])
def test_a_missing_package_is_named(
    error_line: ErrorLine, tiny_fit: tuple[str, ...], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "psutil": callback("DeviceStatsMonitor"),
        "mlflow": "--trainer.logger MLFlowLogger",
        "wandb": "--trainer.logger WandbLogger",
    }
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    absent = RequirementCache("not-psutil", "not_psutil")
    monkeypatch.setattr("lightning.pytorch.callbacks.device_stats_monitor._PSUTIL_AVAILABLE", absent)
    line = error_line(*tiny_fit, "--trainer.max_epochs", "1", *shlex.split(options[name]))
    assert f"pip install -U '{'not-' if name == 'psutil' else ''}{name}" in line
    assert not Path("lightning_logs").exists()


def test_a_finished_run_loses_the_partial_files_of_a_kill_when_it_is_resumed(
    cli: Cli, tiny_run: Path, tiny_fit: tuple[str, ...]
) -> None:
    left = [tiny_run / "checkpoints/.best.ckpt.123.part", tiny_run / ".metrics.csv.123.part"]
    for path in left:
        path.touch()
    code, out, _ = cli(*tiny_fit, "--trainer.max_epochs", "1", "--model.lr", "0.03", "--resume", "auto")
    assert (code, "is finished" in out) == (0, True)
    assert not any(path.exists() for path in left)
