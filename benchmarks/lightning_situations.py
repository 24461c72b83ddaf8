"""What people with Lightning habits try: situations from public reports, each tried in a process of its own.

    python benchmarks/lightning_situations.py                   # the installed package
    python benchmarks/lightning_situations.py --src OLD/src     # another version of it
    python benchmarks/lightning_situations.py --only 3,17

Every situation is a short script that checks what it sees and ends with exit code 1 if that is wrong. It starts in an
empty folder, or in one where a fit has left its files, on the embedded digits and with one thread. The same scripts run
on the first version of the package, whose module names the prelude knows too. This measures nothing and trains nothing
useful.

Importing torch and Lightning takes longer than most situations. So this process imports them once, without our package,
and forks; each situation and each `mnist-lit` command in it then imports ours afresh.
"""

import argparse
import atexit
import csv
import importlib
import os
import runpy
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

SKIPPED = 77  # exit code of a situation that cannot be tried here
WIDTH = 100  # of the last column
HEAVY = ("lightning.pytorch.cli", "torchvision", "torchmetrics.classification", "scipy.stats", "sklearn.datasets")

FIT = "fit --config quickstart --trainer.max_epochs 1 --trainer.limit_train_batches 4 "
OWN = " --model.network my_nets.MLP --model.network.width 32 "
RUN = Path("lightning_logs/version_0")
MY_NETS = """
from torch import nn
class MLP(nn.Sequential):
    def __init__(self, width: int = 16, outputs: int = 10):
        layers = nn.Flatten(), nn.Linear(784, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, outputs)
        super().__init__(*layers)
"""


def forked(action: Callable[[], object], output: IO[str]) -> int:
    """Start an action in a process of its own, as if it were a new interpreter; returns the process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        action()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(command: str) -> tuple[int, str]:
    """Exit code and output of a `mnist-lit` command."""

    def as_module() -> None:
        sys.argv = ["mnist-lit", *shlex.split(command)]
        runpy.run_module("mnist_lit", run_name="__main__", alter_sys=True)

    with tempfile.TemporaryFile("w+", errors="replace") as output:
        code = os.waitstatus_to_exitcode(os.waitpid(forked(as_module, output), 0)[1])
        output.seek(0)
        return code, output.read().strip()


def works(command: str, *words: str) -> str:
    """The output of a command that must succeed and print these words."""
    code, output = run(command)
    if code or not all(word in output for word in words):
        print(output)
        sys.exit(1)
    return output


def refused(command: str, *words: str) -> None:
    """A command that must end with exit code 2, one line with these words, and no new run folder."""
    before = {*Path().glob("lightning_logs/version_*")}
    code, output = run(command)
    one_line = "\n" not in output and output.startswith("mnist-lit: ")
    clean = before == {*Path().glob("lightning_logs/version_*")}
    right = code == 2 and one_line and all(word in output for word in words)
    expect(right and clean, "leaves a run folder:" if right and not clean else "", last_line(output))


def works_or_refused(command: str, *words: str) -> bool:
    """Whether a command succeeds; otherwise it must be refused in one line with these words."""
    code, output = run(command)
    refusal = code == 2 and "\n" not in output and all(word in output for word in words)
    expect(code == 0 or refusal, last_line(output))
    return code == 0


def expect(true: object, *shown: object) -> None:
    """Print what was seen, and end the situation if it is not what was expected."""
    print(*shown, flush=True)
    if not true:
        sys.exit(1)


def skip(reason: str) -> None:
    """End a situation that cannot be tried here."""
    print(reason)
    sys.exit(SKIPPED)


def column(name: str, file: Path | str = RUN / "metrics.csv") -> list[float]:
    """The values in a column of metrics.csv; empty if there is none."""
    with Path(file).open(newline="", encoding="utf-8") as lines:
        return [float(row[name]) for row in csv.DictReader(lines) if row.get(name)]


def write_my_nets() -> None:
    """A module with a network of one's own, in the working directory."""
    Path("my_nets.py").write_text(MY_NETS, encoding="utf-8")
    sys.path.insert(0, "")


def write_picture() -> None:
    """A picture of a one."""
    from PIL import Image, ImageDraw

    picture = Image.new("L", (100, 100), 255)
    ImageDraw.Draw(picture).line([(50, 15), (50, 85)], fill=0, width=9)
    picture.save("one.png")


def last_line(output: str) -> str:
    """The last line that is not empty."""
    return ([line.strip() for line in output.splitlines() if line.strip()] or ["no output"])[-1]


# Scripts see what this file defines, and these: the standard library, and a plain Trainer with our module and our data.
SHELL = "import os, re, subprocess, sys\nfrom pathlib import Path\n"
PYTHON = (
    SHELL
    + """
import lightning as L, torch
from torch import nn
from lightning.pytorch import callbacks
torch.set_num_threads(1)
try:
    from mnist_lit.datamodule import MNISTDataModule
    from mnist_lit.model import TutorialCNN
    from mnist_lit.module import MNISTModule
except ImportError:  # the first version
    from mnist_lit.classifier import Classifier as MNISTModule
    from mnist_lit.datamodule import DigitsDataModule as MNISTDataModule
    from mnist_lit.network import TutorialCNN
import mnist_lit
SHIPPED = Path(mnist_lit.__file__).parent / "pretrained/model.ckpt"

def trainer(**options):
    silent = {name: False for name in ("enable_checkpointing", "enable_progress_bar", "enable_model_summary")}
    return L.Trainer(**{"max_epochs": 1, "limit_train_batches": 4, "accelerator": "cpu", "logger": False,
                        "num_sanity_val_steps": 0, **silent, **options})

def digits(**options):
    return MNISTDataModule(**{"dataset": "digits", "batch_size": 64, "val_size": 180, **options})

def module(**options):
    return MNISTModule(**{"optimizer": "adamw", "lr": 3e-3, **options})

def weights(model):
    return torch.cat([value.flatten() for value in model.parameters()]).detach().clone()
"""
)


class Situation(NamedTuple):
    """Something that somebody tries, and how to see whether it works."""

    title: str
    prelude: str
    script: str  # ends with exit code 0 if all is well, 77 if it cannot be tried here; prints what it saw
    start: str = ""  # the setup whose folder it starts in; "" is an empty one


# Each leaves its folder to situations that start there. What fails here fails again there, where it is reported.
SETUPS = {
    "run": Situation("a fit", SHELL, "works(FIT)"),
    "notebook": Situation(
        "a notebook's checkpoint",
        PYTHON,
        """
t = trainer(limit_train_batches=15)
t.fit(module(ema_decay=0.9), digits())
t.save_checkpoint("mine.ckpt")
""",
    ),
    "own": Situation(
        "a fit of one's own network",
        SHELL,
        """
write_my_nets()
write_picture()
works(FIT + OWN + "--model.ema_decay 0.9 --model.sam_rho 0.05 --model.optimizer muon --model.lr 0.02")
""",
    ),
}

LEARNING_RATE = [
    Situation(
        "Tuner.lr_find: flat at 1e-8, a minimum, divergence",
        PYTHON,
        """
from lightning.pytorch.tuner import Tuner
class Watched(MNISTModule):
    def training_step(self, *args):
        loss = super().training_step(*args)
        seen.append(float(loss.detach()))
        return loss
m, seen = Watched(optimizer="adamw", lr=3e-3), []
t = trainer(max_epochs=2, limit_train_batches=None, limit_val_batches=0)
found = Tuner(t).lr_find(m, digits(val_size=0, batch_size=16), num_training=100, early_stop_threshold=None)
rates, rate = found.results["lr"], found.suggestion()
loss = [sum(seen[first : first + 10]) / 10 for first in range(0, 100, 10)]  # means of ten steps
shape = max(loss[:3]) - min(loss[:3]) < 0.05 and min(loss) < loss[0] - 0.2 and loss[-1] > 2 * min(loss)
right = shape and 1e-6 < rate < 0.3 and m.hparams.lr == rate
expect(right, *(f"{value:.2f}" for value in loss), f"from 1e-8 to {rates[-1]:.0f}; stores {m.hparams.lr:.2g}")
""",
    ),
    Situation(
        "LearningRateFinder in a fit: what it stores is what trains",
        SHELL,
        """
works("fit --config quickstart --trainer.max_epochs 2 --data.batch_size 16 --trainer.limit_train_batches 50 "
      "--model.init default --model.schedule constant --model.warmup 0 --trainer.callbacks LearningRateFinder")
import torch
stored = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["hyper_parameters"]["lr"]
trained = column("lr")
right = 1e-6 < stored < 0.3 and abs(trained[-1] - stored) < 1e-9
expect(right, f"stored {stored:.3g}, trained with {trained[-1]:.3g}")
""",
    ),
    Situation(
        "LearningRateFinder with fewer steps than it needs",
        SHELL,
        'refused(FIT + "--trainer.callbacks LearningRateFinder", "LearningRateFinder", "100")',
    ),
    Situation(
        "StochasticWeightAveraging: swa_lrs 0.01 and 0.5 differ",
        PYTHON,
        """
ends = []
for rate in (0.01, 0.01, 0.5):
    m = module(optimizer="sgd", lr=0.01)
    swa = callbacks.StochasticWeightAveraging(swa_lrs=rate, swa_epoch_start=1, annealing_epochs=1)
    trainer(max_epochs=3, callbacks=[swa]).fit(m, digits())
    ends.append(weights(m))
same, other = (float((ends[0] - end).abs().max()) for end in ends[1:])
expect(same == 0 < other, f"same rate: {same}, another rate: {other:.3g}")
""",
    ),
    Situation(
        "a subclass with AdamW and StepLR trains with its own rates",
        PYTHON,
        """
from lightning.pytorch.loggers import CSVLogger
class Mine(MNISTModule):
    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.004)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)]
trainer(max_epochs=2, log_every_n_steps=1, logger=CSVLogger("logs", "", "")).fit(Mine(), digits())
rates = column("lr", "logs/metrics.csv")
expect(torch.allclose(torch.tensor(rates), torch.tensor([4e-3] * 4 + [4e-4] * 4)), rates)
""",
    ),
    Situation(
        "BackboneFinetuning freezes, then trains the backbone",
        PYTHON,
        """
class Mine(MNISTModule):
    backbone = property(lambda self: self.network.conv1)
class Watch(L.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        seen.append(pl_module.network.conv1.weight.detach().clone())
m, seen = Mine(optimizer="adamw", lr=3e-3), []
first = m.network.conv1.weight.detach().clone()
tune = callbacks.BackboneFinetuning(unfreeze_backbone_at_epoch=1, verbose=False)
trainer(max_epochs=2, callbacks=[tune, Watch()]).fit(m, digits())
expect(torch.equal(first, seen[0]) and not torch.equal(first, seen[1]), "frozen in epoch 1, trained in epoch 2")
""",
    ),
    Situation(
        "resume under a plain Trainer is exact",
        PYTHON,
        """
def fitted(epochs, **options):
    m, t = module(ema_decay=0.9, schedule="constant", dropout=0.3), trainer(max_epochs=epochs)
    t.fit(m, digits(degrees=10), **options)
    t.save_checkpoint(f"{epochs}.ckpt")
    return weights(m)
once, half = fitted(2), fitted(1)
resumed = fitted(2, ckpt_path="1.ckpt", weights_only=True)
expect(torch.equal(once, resumed) and not torch.equal(once, half), "equal to the bit")
""",
    ),
    Situation(
        "fit --ckpt_path with --model.lr: the option holds",
        SHELL,
        """
works("fit --config quickstart --trainer.max_epochs 2 --trainer.limit_train_batches 4 --trainer.log_every_n_steps 1 "
      "--model.schedule constant --ckpt_path lightning_logs/version_0/checkpoints/last.ckpt --model.lr 0.0007")
rates = column("lr", "lightning_logs/version_1/metrics.csv")
expect(len(rates) == 4 and {round(rate, 9) for rate in rates[1:]} == {0.0007}, rates)
""",
        "run",
    ),
]

PLAIN_TRAINER = [
    Situation(
        "trainer.test and trainer.validate return scores",
        PYTHON,
        """
m, data, t = module(), digits(), trainer(limit_train_batches=12)
t.fit(m, data)
test, val = t.test(m, data)[0], t.validate(m, data)[0]
right = 0
for batch in data.test_dataloader():
    x, y = batch
    right += int((m.eval()(x).argmax(1) == y).sum())
expect(abs(test["test/acc"] - right / 360) < 1e-6 and 0 < val["val/loss"] < 9, test["test/acc"], val["val/loss"])
""",
    ),
    Situation(
        "trainer.predict gives probabilities",
        PYTHON,
        """
probs = torch.cat(trainer().predict(module(), digits()))
error = float((probs.sum(1) - 1).abs().max())
expect(probs.shape == (360, 10) and error < 1e-5 and bool((probs >= 0).all()), tuple(probs.shape), f"{error:.1g}")
""",
    ),
    Situation(
        "load_from_checkpoint of the shipped model",
        PYTHON,
        """
score = trainer().test(MNISTModule.load_from_checkpoint(SHIPPED), digits(), verbose=False)[0]
expect(score["test/acc"] > 0.8, score["test/acc"])
""",
    ),
    Situation(
        "load_from_checkpoint of our run, with its EMA weights",
        PYTHON,
        """
m = MNISTModule.load_from_checkpoint(RUN / "checkpoints/best.ckpt")
score = trainer().validate(m, digits(), verbose=False)[0]
expect(abs(score["val/loss"] - column("val/loss")[-1]) < 1e-4, score["val/loss"], "and", column("val/loss")[-1])
""",
        "run",
    ),
    Situation(
        "load_from_checkpoint of a notebook's file",
        PYTHON,
        """
m = MNISTModule.load_from_checkpoint("mine.ckpt")
average = torch.load("mine.ckpt", weights_only=True)["state_dict"]["ema.fc2.weight"]
score = trainer().test(m, digits(), verbose=False)[0]
expect(torch.equal(m.ema.fc2.weight, average) and score["test/acc"] > 0.2, score["test/acc"])
""",
        "notebook",
    ),
    Situation(
        "a notebook's file: mnist-lit test",
        SHELL,
        'print(re.search("test/acc.*", works("test --ckpt_path mine.ckpt", "test/acc"))[0])',
        "notebook",
    ),
    Situation(
        "a notebook's file: mnist-lit predict",
        SHELL,
        'write_picture()\nprint(works("predict one.png --model mine.ckpt", "one.png").splitlines()[-1])',
        "notebook",
    ),
    Situation(
        "a notebook's file: mnist-lit export",
        SHELL,
        """
works("export --model mine.ckpt --output mine.onnx")
import numpy, onnxruntime
outputs = onnxruntime.InferenceSession("mine.onnx").run(None, {"images": numpy.zeros((3, 28, 28), "uint8")})
expect(any(output.shape == (3, 10) for output in outputs), [output.shape for output in outputs])
""",
        "notebook",
    ),
    Situation(
        "a notebook's file: mnist-lit report",
        SHELL,
        """
output = works("report mine.ckpt --images 20 --output page.html")
expect("</html>" in Path("page.html").read_text(), output.splitlines()[-1])
""",
        "notebook",
    ),
    Situation(
        "a notebook's file: fit --ckpt_path",
        SHELL,
        """
works("fit --ckpt_path mine.ckpt --trainer.max_epochs 2 --trainer.limit_train_batches 15", "(30 steps)")
epochs = column("epoch")
expect(min(epochs) == 1 == max(epochs), "epochs", sorted({*epochs}))
""",
        "notebook",
    ),
    Situation(
        "a notebook's file: model.init_from",
        SHELL,
        """
options = " --model.init default --model.lr 1e-9 --model.ema_decay 0 --model.warmup 0"
works(FIT + "--model.init_from mine.ckpt" + options)
works(FIT + options)
warm, cold = (column("val/acc", f"lightning_logs/version_{number}/metrics.csv")[-1] for number in (0, 1))
expect(warm > cold + 0.1, f"validation {warm:.1%} before any training, {cold:.1%} without")
""",
        "notebook",
    ),
    Situation(
        "ScoreTable, our callback, under a plain Trainer",
        PYTHON,
        """
try:
    from mnist_lit.callbacks.tables import ScoreTable
except ImportError:
    from mnist_lit.tables import ScoreTable
from contextlib import redirect_stdout
from io import StringIO
with redirect_stdout(StringIO()) as output:
    trainer(callbacks=[ScoreTable()]).test(module(), digits(), verbose=False)
expect("test/acc" in output.getvalue(), re.search("test/acc.*", output.getvalue())[0])
""",
    ),
]

OWN_NETWORK = [
    *(
        Situation(
            f"own network in Python with {name}",
            PYTHON,
            f"""
write_my_nets()
from my_nets import MLP
m, data, t = module(network=MLP(32), {options}), digits(), trainer(max_epochs=2, limit_train_batches=None)
t.fit(m, data)
expect(t.test(m, data, verbose=False)[0]["test/acc"] > 0.8, t.test(m, data, verbose=False)[0]["test/acc"])
""",
        )
        for name, options in (
            ("EMA", "ema_decay=0.9"),
            ("SAM", "sam_rho=0.05"),
            ("Muon", "optimizer='muon', lr=0.02"),
        )
    ),
    Situation(
        "own network: logits and log-probabilities train alike",
        PYTHON,
        """
def fitted(network):
    m, t = module(network=network), trainer()
    t.fit(m, digits())
    return t.validate(m, digits(), verbose=False)[0]["val/loss"]
def net(*more):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10), *more)
logits, log_probs = fitted(net()), fitted(net(nn.LogSoftmax(1)))
expect(abs(logits - log_probs) < 1e-4, logits, "and", log_probs)
""",
    ),
    Situation(
        "own network from the command line: fit with EMA, SAM and Muon, test",
        SHELL,
        """
saved = (RUN / "config.yaml").read_text()
expect("my_nets.MLP" in saved and "width: 32" in saved, "config.yaml names the network")
print(re.search("test/acc.*", works("test" + OWN, "test/acc"))[0])
""",
        "own",
    ),
    Situation(
        "own network from the command line: fit --ckpt_path",
        SHELL,
        """
command = f"fit --ckpt_path {RUN}/checkpoints/last.ckpt --trainer.max_epochs 2 --trainer.limit_train_batches 4"
print(re.search("epochs.*", works(command + OWN, "(8 steps)"))[0])
""",
        "own",
    ),
    Situation(
        "own network from the command line: export and predict",
        SHELL,
        """
works("export version_0 --output own.onnx" + OWN)
rows = [works(f"predict one.png --threshold 1 --model {model}").splitlines()[-1].split()
        for model in ("version_0" + OWN, "own.onnx")]
expect(rows[0][:3] == rows[1][:3] and rows[0][1].isdigit(), *rows[0], "and", *rows[1])
""",
        "own",
    ),
    Situation("own network from the command line: report", SHELL, 'print(works("report --images 20" + OWN))', "own"),
    Situation(
        "own network: refused in one line without --model.network",
        SHELL,
        'refused("test version_0", "--model.network my_nets.MLP")',
        "own",
    ),
    Situation(
        "own network with 7 outputs: one line before the first step",
        SHELL,
        """
write_my_nets()
refused(FIT + "--model.network my_nets.MLP --model.network.outputs 7", "model.network", "10")
""",
    ),
    Situation(
        "a hostile class path in a checkpoint is not imported",
        SHELL,
        """
import torch
path = RUN / "checkpoints/best.ckpt"
content = torch.load(path, weights_only=True)
Path("hostile.py").write_text("open('imported', 'w')\\n" + Path("my_nets.py").read_text())
content["hyper_parameters"]["network"] = "hostile.MLP"
content["mnist_lit"]["config"] = content["mnist_lit"]["config"].replace("my_nets.", "hostile.")
torch.save(content, path)
for command in ("test version_0", "export version_0", "predict one.png --model version_0"):
    refused(command, "hostile.MLP")
import yaml
config = yaml.safe_load(content["mnist_lit"]["config"])
config["model"]["network"] = "hostile.MLP"  # as a notebook's file has it
content["mnist_lit"]["config"] = yaml.safe_dump(config)
torch.save(content, "notebook.ckpt")
refused("test notebook.ckpt", "hostile.MLP")
works("test version_0" + OWN, "test/acc")
expect(not Path("imported").exists(), "scored without importing hostile.py")
""",
        "own",
    ),
    Situation(
        "model.compile: parameters keep their names",
        PYTHON,
        """
import shutil
if not any(map(shutil.which, ("g++", "c++", "clang++"))):
    skip("no C++ compiler")
small = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))  # the tutorial's takes two minutes to compile
m, t = module(network=small, compile=True), trainer(limit_train_batches=2)
t.fit(m, digits(batch_size=16))
expect(m.network._compiled_call_impl is not None, "compiled")
t.save_checkpoint("compiled.ckpt")
names = {n for n in torch.load("compiled.ckpt", weights_only=True)["state_dict"] if n.startswith("network.")}
expect(names == {"network.1.weight", "network.1.bias"}, *sorted(names))
""",
    ),
    Situation(
        "torch.jit.script(TutorialCNN())",
        PYTHON,
        """
net, x = TutorialCNN().eval(), torch.randn(2, 1, 28, 28)
expect(torch.allclose(torch.jit.script(net)(x), net(x), atol=1e-5), "same outputs")
""",
    ),
    Situation(
        "torch.export of TutorialCNN",
        PYTHON,
        """
net, x = TutorialCNN().eval(), torch.randn(2, 1, 28, 28)
expect(torch.allclose(torch.export.export(net, (x,)).module()(x), net(x), atol=1e-5), "same outputs")
""",
    ),
    Situation(
        "TutorialCNN.forward takes one argument",
        PYTHON,
        """
import inspect
expect([*inspect.signature(TutorialCNN.forward).parameters] == ["self", "x"], inspect.signature(TutorialCNN.forward))
""",
    ),
]

OWN_MODULE = [
    Situation(
        "own module on our data: x, y = batch",
        PYTHON,
        """
class Mine(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)
    def training_step(self, batch, batch_idx):
        x, y = batch
        assert x.shape[1:] == (1, 28, 28) and x.dtype == torch.float32 and y.dtype == torch.int64
        seen.append((float(x.mean()), batch.indices))
        return nn.functional.cross_entropy(self.layer(x.flatten(1)), y)
    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("acc", (self.layer(x.flatten(1)).argmax(1) == y).float().mean(), batch_size=len(y))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.05)
m, data, t, seen = Mine(), digits(), trainer(max_epochs=3, limit_train_batches=None), []
t.fit(m, data)
acc = t.test(m, data, verbose=False)[0]["acc"]
expect(acc > 0.8 and abs(seen[0][0]) < 0.5 and len(seen[0][1]) == 64, f"test accuracy {acc:.1%}")
""",
    ),
    Situation(
        "our batches are augmented while training only",
        PYTHON,
        """
data = digits(degrees=20, translate=3)
data.setup()
def images(loader):
    found = {}
    for batch in loader:
        x, y = batch
        found |= {int(index): image for index, image in zip(batch.indices, x)}
    return found
loader, evaluation = data.train_dataloader(), data.val_dataloader()
loader.set_epoch(0)
first = images(loader)
loader.set_epoch(1)
second = images(loader)
moved = sum(not torch.equal(first[index], second[index]) for index in first)
still = all(torch.equal(image, images(evaluation)[index]) for index, image in [*images(evaluation).items()][:3])
expect(moved > 0.9 * len(first) and still, f"{moved} of {len(first)} training images differ between epochs")
""",
    ),
    Situation(
        "MNISTModule on torchvision's MNIST loader",
        PYTHON,
        """
shared = os.environ.get("MNIST_LIT_SHARED") or skip("MNIST_LIT_SHARED is not set")
import gzip
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
raw = Path("MNIST/raw")
raw.mkdir(parents=True)
for archive in Path(shared, "mnist").glob("*.gz"):
    raw.joinpath(archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
scale = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
train, test = (DataLoader(datasets.MNIST(".", train=part, transform=scale), 64, shuffle=part) for part in (True, False))
m, t = module(ema_decay=0.9), trainer(limit_train_batches=60, limit_test_batches=8)
t.fit(m, train)
acc = t.test(m, test, verbose=False)[0]["test/acc"]
expect(acc > 0.7, f"test accuracy {acc:.1%} after 60 steps")
""",
    ),
    Situation(
        "data.fraction 0.1: a fixed, stratified subset",
        PYTHON,
        """
def chosen(**options):
    data = digits(val_size=0, batch_size=32, **options)
    data.setup()
    return data.train_indices, data.in_memory.train_labels[data.train_indices].bincount(minlength=10)
(first, counts), (again, _), (other, _) = chosen(fraction=0.1), chosen(fraction=0.1), chosen(fraction=0.1, split_seed=1)
fixed = torch.equal(first, again) and not torch.equal(first.sort().values, other.sort().values)
expect(fixed and 135 <= len(first) <= 152 and counts.max() - counts.min() <= 2, len(first), counts.tolist())
""",
    ),
    Situation(
        "data.per_class 10 and data.classes 3,7 in a fit",
        SHELL,
        """
output = works("fit --config quickstart --trainer.max_epochs 1 --data.batch_size 5 --data.per_class 10 "
               "--data.classes 3,7", "(4 steps)")
table = works("test", "test/acc")
rows = re.findall(r"^ +(\\w+) +[\\d.]+%", table, re.MULTILINE)
expect(rows == ["3", "7"], "classes in the table:", *rows)
""",
    ),
    Situation(
        "data.dataset emnist: letters named and upright",
        PYTHON,
        """
import struct
raw = Path("data/EMNIST/raw")
raw.mkdir(parents=True)
stored = torch.zeros(26, 28, 28, dtype=torch.uint8)
stored[:, 5] = 255  # a row, which stands for a column
for part in ("train", "test"):
    name = f"emnist-letters-{part}"
    images = struct.pack(">IIII", 2051, 26, 28, 28) + bytes(stored.flatten().tolist())
    raw.joinpath(f"{name}-images-idx3-ubyte").write_bytes(images)
    raw.joinpath(f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 26) + bytes(range(1, 27)))
data = MNISTDataModule("data", dataset="emnist", split="letters", batch_size=2, val_size=0)
data.setup()
x, y = next(iter(data.test_dataloader()))
upright = bool((x[0, 0, :, 5] > 2).all()) and bool((x[0, 0, :, 6] < 0).all())
expect(upright and y.tolist() == [0, 1] and data.num_classes == 26, *data.classes[:3], y.tolist())
""",
    ),
]

COMMAND_LINE = [
    Situation(
        "EarlyStopping with a right monitor stops",
        SHELL,
        """
stopping = "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val/loss --trainer.callbacks.patience 1 "
works("fit --config quickstart --trainer.max_epochs 9 --trainer.limit_train_batches 2 " + stopping
      + "--trainer.callbacks.min_delta 100")
expect(len(column("val/loss")) == 2, len(column("val/loss")), "epochs")
""",
    ),
    Situation(
        "EarlyStopping with a wrong monitor lists the right ones",
        SHELL,
        """
stopping = "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val_loss"
refused(FIT + stopping, "val/loss", "val/acc")
""",
    ),
    Situation(
        "EarlyStopping on val/loss without validation images",
        SHELL,
        'refused(FIT + "--data.val_size 0 --trainer.callbacks EarlyStopping --trainer.callbacks.monitor val/loss",'
        ' "train/loss")',
    ),
    Situation(
        "ModelCheckpoint with a slash in its file name",
        SHELL,
        """
works(FIT + "--trainer.callbacks ModelCheckpoint --trainer.callbacks.monitor val/loss --trainer.callbacks.mode min "
      "--trainer.callbacks.filename '{epoch}-{val/loss:.3f}'")
found = [str(path.relative_to(RUN / "checkpoints")) for path in RUN.glob("checkpoints/**/*.ckpt")]
theirs = [name for name in found if "epoch=" in name]
expect(len(theirs) == 1 and "/" not in theirs[0] and {"best.ckpt", "last.ckpt"} < {*found}, *sorted(found))
""",
    ),
    Situation(
        "LearningRateMonitor adds its curve to metrics.csv",
        SHELL,
        """
works(FIT + "--trainer.log_every_n_steps 1 --trainer.callbacks LearningRateMonitor")
names = (RUN / "metrics.csv").read_text().splitlines()[0].split(",")
theirs = [name for name in names if name.startswith("lr-")]
right = theirs and len(column("lr")) == 4 and column(theirs[0]) == column("lr") and "val/acc" in names
expect(right, *theirs, *(column(name) for name in theirs), "of", column("lr"))
""",
    ),
    Situation(
        "Timer ends the fit",
        SHELL,
        """
works("fit --config quickstart --trainer.max_epochs 50 --trainer.callbacks Timer "
      "--trainer.callbacks.duration 00:00:00:06 --trainer.callbacks.interval step")
expect(column("epoch")[-1] < 40, "ended in epoch", int(column("epoch")[-1]) + 1)
""",
    ),
    Situation(
        "DeviceStatsMonitor, with or without psutil",
        SHELL,
        """
if works_or_refused(FIT + "--trainer.log_every_n_steps 1 --trainer.callbacks DeviceStatsMonitor", "psutil"):
    expect("DeviceStatsMonitor" in (RUN / "metrics.csv").read_text(), "its curves are in metrics.csv")
else:
    expect(not RUN.exists(), "one line, no run folder")
""",
    ),
    Situation(
        "BatchSizeFinder is refused with the reason",
        SHELL,
        'refused(FIT + "--trainer.callbacks BatchSizeFinder", "BatchSizeFinder", "data.batch_size")',
    ),
    Situation(
        "GradientAccumulationScheduler accumulates",
        SHELL,
        """
if works_or_refused("fit --config quickstart --trainer.max_epochs 2 --trainer.limit_train_batches 4 "
                    "--model.schedule constant --model.warmup 0 "
                    "--trainer.callbacks GradientAccumulationScheduler "
                    "--trainer.callbacks.scheduling '{0: 1, 1: 2}'", "GradientAccumulationScheduler"):
    import torch
    step = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["global_step"]
    expect(step == 6 and max(column("step")) == 5, f"{step} steps of 4 + 2")
""",
    ),
    Situation(
        "StochasticWeightAveraging beside model.ema_decay",
        SHELL,
        'refused(FIT + "--trainer.callbacks StochasticWeightAveraging --trainer.callbacks.swa_lrs 0.01", "ema_decay")',
    ),
    *(
        Situation(
            f"{bar} replaces our progress",
            SHELL,
            f"""
output = works(FIT + "--trainer.callbacks {bar}", "best.ckpt")
ours = [line for line in output.splitlines() if re.match("epoch 1/1 .*images/s", line)]
theirs = re.findall(r"Epoch 0.*", output.replace(chr(13), chr(10)))
expect(theirs and not ours, *theirs[-1:], *ours)
""",
        )
        for bar in ("RichProgressBar", "TQDMProgressBar")
    ),
    Situation(
        "another CSVLogger leaves metrics.csv and TensorBoard",
        SHELL,
        """
works(FIT + "--trainer.logger CSVLogger --trainer.logger.save_dir logs")
theirs = [*Path("logs").rglob("metrics.csv")]
listed = works("runs", "version_0")
tensorboard = [*RUN.glob("events.out.tfevents*")]
score = f"{column('val/acc')[-1]:.1%}".replace("%", " %") if RUN.joinpath("metrics.csv").exists() else "no metrics.csv"
expect(len(theirs) == 1 and tensorboard and score in listed and column("val/acc", theirs[0]), score)
""",
    ),
    *(
        Situation(
            f"{logger} without its package: one line",
            SHELL,
            f"""
from importlib.util import find_spec
if find_spec("{package}"):
    skip("{package} is installed")
refused(FIT + "--trainer.logger {logger}", "{package}")
""",
        )
        for logger, package in (("MLFlowLogger", "mlflow"), ("WandbLogger", "wandb"))
    ),
    Situation(
        "trainer.logger false: no curves, and none promised",
        SHELL,
        """
output = works(FIT + "--trainer.logger false", "best.ckpt")
files = {path.name for path in RUN.iterdir()}
expect("metrics.csv" not in files and "tensorboard" not in output and "checkpoints" in files, *sorted(files))
""",
    ),
    Situation(
        "trainer.enable_progress_bar false: no progress",
        SHELL,
        """
output = works(FIT + "--trainer.enable_progress_bar false", "best.ckpt")
expect("epoch 1/1" not in output.lower(), output.splitlines()[0])
""",
    ),
    Situation(
        "trainer.profiler simple prints its table",
        SHELL,
        """
output = works(FIT + "--trainer.profiler simple")
expect("run_training_epoch" in output, output.count("\\n") + 1, "lines of output")
""",
    ),
    Situation(
        "a run's config.yaml can be run again, callbacks included",
        SHELL,
        """
works(FIT + "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val/acc --trainer.logger CSVLogger "
      "--trainer.logger.save_dir logs --trainer.profiler simple")
works(f"fit --config {RUN}/config.yaml")
first, second = (column("val/loss", f"lightning_logs/version_{number}/metrics.csv") for number in (0, 1))
texts = [Path(f"lightning_logs/version_{number}/config.yaml").read_text().split("\\n", 1)[1] for number in (0, 1)]
expect(first == second and texts[0] == texts[1], first, "and", second)
""",
    ),
    Situation(
        "rejected input leaves no run folder",
        SHELL,
        """
for options in ("--trainer.precision 17", "--trainer.strategy nonsense", "--data.batch_size 5000", "--model.lr -1",
                "--trainer.callbacks NoSuchCallback"):
    refused(FIT + options, "")
expect(not Path("lightning_logs").exists(), "no folder after five refusals")
""",
    ),
]

PROGRESS_AND_HELP = [
    Situation(
        "progress in a pipe: a line per epoch",
        SHELL,
        """
output = works("fit --config quickstart --trainer.max_epochs 2 --trainer.limit_train_batches 4")
lines = [line for line in output.splitlines() if "images/s" in line and "loss" in line and "acc" in line]
expect(len(lines) == 2 and "left" in lines[0] and "8" in lines[0], lines[-1] if lines else output.splitlines()[0])
""",
    ),
    Situation(
        "the bar in a terminal of 80 columns counts the steps to be run",
        SHELL,
        """
import fcntl, pty, struct, termios
main, side = pty.openpty()
fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
command = "fit --config quickstart --trainer.max_epochs -1 --trainer.max_steps 13 --model.ema_decay 0.9"
environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
child = subprocess.Popen([sys.executable, "-m", "mnist_lit", *command.split()], stdin=side, stdout=side, stderr=side,
                         env=environment)
os.close(side)
data = b""
while True:
    try:
        part = os.read(main, 4096)
    except OSError:
        break
    if not part:
        break
    data += part
child.wait()
text = re.sub(r"\\x1b\\[[0-9;?]*[A-Za-z]", "", data.decode())
lines = [line.strip() for line in re.split(r"[\\r\\n]+", text) if line.strip()]
totals = {int(total) for total in re.findall(r"\\b\\d+/(\\d\\d)\\b", text)}
bars = [line for line in lines if "13" in line and "/13" in line]
expect(child.returncode == 0 and 13 in totals and 20 not in totals and max(map(len, lines)) <= 80,
       bars[-1] if bars else f"totals {sorted(totals)}, widest {max(map(len, lines))}")
""",
    ),
    Situation(
        "fit --help: at most 250 lines, no cross-references",
        SHELL,
        """
output = works("fit --help", "--model.lr", "--data.batch_size", "quickstart", "val/acc")
count = output.count("\\n") + 1
expect(count <= 250 and ":class:" not in output and ":meth:" not in output, count, "lines")
""",
    ),
    Situation(
        "test --help shows only what test uses",
        SHELL,
        """
output = works("test --help", "--ckpt_path", "--model")
unused = [name for name in ("--model.lr", "--trainer.max_epochs", "--data.degrees") if name in output]
expect(not unused, output.count("\\n") + 1, "lines;", *unused)
""",
    ),
    *(
        Situation(
            f"mnist-lit {command} version_0, a positional name",
            SHELL,
            f'print(works("{command} version_0 {more}".strip(), "{word}").splitlines()[0])',
            "run",
        )
        for command, more, word in (
            ("test", "", "test/acc"),
            ("validate", "", "val/acc"),
            ("export", "--output out.onnx", "out.onnx"),
            ("calibrate", "", ""),
        )
    ),
    Situation(
        "--model and --ckpt_path name the same model everywhere",
        SHELL,
        """
outputs = [works(f"test {option} version_0", "test/acc") for option in ("--model", "--ckpt_path")]
scores = [re.search("test/acc.*", output)[0] for output in outputs]
works("export --ckpt_path latest --output out.onnx")
expect(scores[0] == scores[1] and Path("out.onnx").exists(), scores[0])
""",
        "run",
    ),
]

SITUATIONS = [*LEARNING_RATE, *PLAIN_TRAINER, *OWN_NETWORK, *OWN_MODULE, *COMMAND_LINE, *PROGRESS_AND_HELP]


class Outcome(NamedTuple):
    """How a situation ended."""

    word: str  # ok, FAILS or skipped
    last_line: str
    seconds: float


def attempt(situation: Situation, folder: Path, timeout: float) -> Outcome:
    """Run a situation's script in a folder."""

    def script() -> None:
        os.setsid()
        os.chdir(folder)
        exec(situation.prelude + situation.script, {**globals(), "__name__": "__main__"})

    started = time.monotonic()
    code: int | None = None
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        child = forked(script, output)
        while code is None and time.monotonic() - started < timeout:
            ended, status = os.waitpid(child, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if ended else None
            time.sleep(0.05)
        if code is None:
            os.killpg(child, signal.SIGKILL)  # with the commands that it has started
            os.waitpid(child, 0)
        output.seek(0)
        last = last_line(output.read()) if code is not None else f"no end within {timeout:.0f} s"
    word = {0: "ok", SKIPPED: "skipped"}.get(code or 0, "FAILS") if code is not None else "FAILS"
    return Outcome(word, last, time.monotonic() - started)


def shortened(text: str) -> str:
    """A line that fits into its column."""
    text = " ".join(text.split()).replace("|", "¦")
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def chosen_numbers(only: str) -> list[int]:
    """The situations to run, counted from 1; all of them if nothing is chosen."""
    return [int(number) for number in only.split(",")] if only else [*range(1, len(SITUATIONS) + 1)]


def main() -> None:
    """Run the situations one after another, and print a row as each ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--src", type=Path, help="folder that contains the package, instead of the installed one")
    parser.add_argument("--only", default="", metavar="N,N", help="run these situations alone")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for each; default: 120")
    options = parser.parse_args()
    if options.src:
        sys.path.insert(0, str(options.src.resolve()))
        os.environ["PYTHONPATH"] = sys.path[0]
    os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    for name in HEAVY:
        importlib.import_module(name)
    assert "mnist_lit" not in sys.modules
    numbers = chosen_numbers(options.only)
    counts = {"ok": 0, "FAILS": 0, "skipped": 0}
    temporary = tempfile.mkdtemp()  # not TemporaryDirectory: every fork would delete it as it ends
    try:
        for name in {SITUATIONS[number - 1].start for number in numbers} - {""}:
            folder = Path(temporary, name)
            folder.mkdir()
            attempt(SETUPS[name], folder, options.timeout)
        print("| | Situation | | Last line of its output | s |\n|---|---|---|---|---|", flush=True)
        for number in numbers:
            situation, folder = SITUATIONS[number - 1], Path(temporary, str(number))
            if situation.start:
                shutil.copytree(Path(temporary, situation.start), folder)
            else:
                folder.mkdir()
            word, last, seconds = attempt(situation, folder, options.timeout)
            print(f"| {number} | {situation.title} | {word} | {shortened(last)} | {seconds:.0f} |", flush=True)
            counts[word] += 1
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(temporary)
    print(f"\n{len(numbers)} situations:", ", ".join(f"{count} {word}" for word, count in counts.items()))
    sys.exit(counts["FAILS"] > 0)


if __name__ == "__main__":
    main()
