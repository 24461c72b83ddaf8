"""Several processes train and count as one does. By subprocess: Lightning starts the command itself again."""

import contextlib
import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_lit.errors import InputError
from mnist_lit.experiments.verify_resume import curve_difference, state_difference
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.folders import LAST_CKPT, all_runs

Cli = Callable[..., tuple[int, str, str]]

PAGE = Path(__file__).parents[2].joinpath("docs/distributed.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"```sh\n(.*?)\n```", PAGE)]
QUICK = ["--data.val_size", "1277", "--data.batch_size", "32", "--trainer.max_epochs", "2"]  # 5 steps an epoch
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISTRIBUTED_DEBUG": "OFF"}
RUN = Path("lightning_logs/version_0")
DDP = ["--trainer.accelerator", "cpu", "--trainer.strategy", "ddp", "--trainer.devices"]


def command(*args: str, cwd: str) -> str:
    """What `mnist-lit` printed, run in a folder made for it."""
    Path(cwd).mkdir()
    program = [sys.executable, "-m", "mnist_lit", *args]
    run = subprocess.run(program, cwd=cwd, env=ENV, capture_output=True, text=True, check=False, timeout=900)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("images  ") <= 1, "each process printed"
    return run.stdout


def column(run: str, name: str) -> list[float]:
    with Path(run, "lightning_logs/version_0/metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def pictures(run: str) -> list[str]:
    return list(EventAccumulator(f"{run}/lightning_logs/version_0").Reload().Tags()["images"])


def compare(
    cli: Cli, recipe: list[str], steps: int, *, near: float = 1e-5, other: tuple[str, str] = ("--seed_everything", "1")
) -> None:
    """The same losses, step by step, and the same scores; with the other option the losses are further away."""
    fit = ["fit", *recipe, "--trainer.max_epochs", "1", "--trainer.log_every_n_steps", "1", "--model.momentum", "0"]
    fit += ["--model.schedule", "constant", "--data.degrees", "15"]
    command(*fit, *DDP, "2", cwd="two")
    for run, options in (("one", []), ("control", [*other, "--trainer.limit_train_batches", "9"])):
        Path(run).mkdir()
        with contextlib.chdir(run):
            assert cli(*fit, "--trainer.accelerator", "cpu", *options)[0] == 0
    one, two, control = (column(run, "train/loss_step") for run in ("one", "two", "control"))
    assert len(one) == steps
    assert two == pytest.approx(one, rel=near)
    assert control != pytest.approx(one[:9], rel=1e-4)
    for name in ("train/acc", "train/loss", "val/loss"):
        assert column("two", name) == pytest.approx(column("one", name), rel=1e-3, abs=1e-5)
    assert pictures("two") == pictures("one")


# 1,257 images in steps of 157: the ninth has one image, and the first process none of it
UNEVEN = ["--data.dataset", "digits", "--data.val_size", "180", "--data.batch_size", "157", "--model.lr", "0.05"]


def test_two_processes_train_as_one_with_an_empty_shard_at_the_end(cli: Cli) -> None:
    compare(cli, UNEVEN, steps=9)


@pytest.mark.slow
def test_two_processes_take_sams_steps_as_one(cli: Cli) -> None:
    # the gradient uphill jumps where rounding moves a pooling's maximum
    compare(cli, [*UNEVEN, "--model.sam_rho", "0.05"], steps=9, near=1e-4, other=("--model.sam_rho", "0"))


def test_three_processes_count_every_test_image_once(cli: Cli) -> None:
    recipe = ["--data.dataset", "digits", "--data.val_size", "96", "--data.batch_size", "51"]  # 360 = 7 · 51 + 3
    recipe += ["--trainer.limit_train_batches", "2", "--trainer.accelerator", "cpu"]
    Path("run").mkdir()
    with contextlib.chdir("run"):
        assert cli("fit", *recipe, "--trainer.max_epochs", "1")[0] == 0
    best = str(Path("run/lightning_logs/version_0/checkpoints/best.ckpt").resolve())
    alone = cli("test", "--ckpt_path", best, "--trainer.accelerator", "cpu")[1]
    rows = Path("run/lightning_logs/version_0/predictions.csv").read_text()
    three = command("test", "--ckpt_path", best, *DDP, "3", cwd="b")
    assert "images        360" in alone
    assert [line for line in alone.splitlines() if "/loss" not in line] == [
        line for line in three.splitlines() if "/loss" not in line
    ]
    again = Path("run/lightning_logs/version_0/predictions.csv").read_text()
    assert [row.split(",")[:3] for row in again.splitlines()] == [row.split(",")[:3] for row in rows.splitlines()]


@pytest.mark.slow
def test_two_processes_train_as_one_on_mnist(cli: Cli, mnist_dir: str) -> None:
    # at the tutorial's rate; at 0.05 training itself blows up rounding after some 50 steps, from 2e-6 to 1
    compare(cli, ["--config", "tutorial", "--data.data_dir", mnist_dir], steps=118)


@pytest.mark.slow
def test_two_processes_that_diverge_say_so_once() -> None:
    fit = ["fit", "--data.dataset", "digits", "--data.val_size", "96", "--data.batch_size", "64", "--model.lr", "1e30"]
    program = [sys.executable, "-m", "mnist_lit", *fit, *DDP, "2", "--trainer.accumulate_grad_batches", "2"]
    run = subprocess.run(program, env=ENV, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 2
    assert [line.partition(",")[0] for line in run.stderr.splitlines()] == ["mnist-lit: the loss is nan at step 10"]


def start(*args: str, out: str = "out") -> subprocess.Popen[bytes]:
    """A command of the page or of `mnist-lit`, with this environment's programs; what it says goes to a file."""
    variables = dict(arg.split("=") for arg in args[:1] if "=" in arg)
    name, *options = args[len(variables) :]
    module = {"mnist-lit": "mnist_lit", "torchrun": "torch.distributed.run"}[name]
    program = [sys.executable, "-m", module, *options]
    with Path(out).open("ab") as file:
        return subprocess.Popen(program, stdout=file, stderr=subprocess.STDOUT, env=ENV | variables)


def wait_until(done: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while not done():
        assert process.poll() is None, Path("out").read_text()
        assert time.monotonic() < until
        time.sleep(0.02)


def steps(name: str = LAST_CKPT) -> int:
    with contextlib.suppress(InputError):  # there is none yet, or it is on its way between its names
        return int(load_checkpoint(RUN / "checkpoints" / name)["global_step"])
    return 0


def children(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def fit(devices: int, *options: str, cwd: str) -> dict[str, object]:
    """The last checkpoint of a fit on so many processes."""
    command("fit", "--config", "quickstart", *QUICK, *DDP, str(devices), *options, cwd=cwd)
    return load_checkpoint(Path(cwd) / RUN / "checkpoints/last.ckpt")


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_a_signal_to_any_process_saves_and_ends_them_all(rank: int) -> None:
    whole = fit(2, cwd="whole")
    options = ["--config", "quickstart", *QUICK, *DDP, "2", "--checkpoint_every_n_steps", "1", "--resume", "auto"]
    process = start("mnist-lit", "fit", *options)
    wait_until(lambda: steps() > 2, process)
    both = [process.pid, *children(process)]
    for pid in both if rank == 2 else both[rank : rank + 1]:
        os.kill(pid, signal.SIGTERM)
    assert process.wait(30) == 143, Path("out").read_text()
    assert "stopped by SIGTERM at step" in Path("out").read_text()
    assert steps()
    assert not any(map(alive, both))
    process = start("mnist-lit", "fit", *options)
    assert process.wait(120) == 0, Path("out").read_text()
    assert state_difference(load_checkpoint(RUN / "checkpoints/last.ckpt"), whole) is None
    assert curve_difference(RUN, Path("whole") / RUN) is None


@linux
@pytest.mark.slow
def test_torchrun_starts_a_dead_process_again_and_the_run_goes_on_to_the_same_bits() -> None:
    whole = fit(2, "--checkpoint_every_n_steps", "1", cwd="whole")
    (torchrun,) = (line for line in COMMANDS if "--max-restarts" in line)
    process = start(*torchrun, *QUICK, "--checkpoint_every_n_steps", "1")
    wait_until(lambda: steps() > 2, process)
    victim = children(process)[-1]
    os.kill(victim, signal.SIGKILL)
    assert process.wait(240) == 0, Path("out").read_text()
    assert re.search(r"fit: \S+, from step \d+ on", Path("out").read_text())
    assert all_runs(Path("lightning_logs")) == [RUN]
    assert state_difference(load_checkpoint(RUN / "checkpoints/last.ckpt"), whole) is None
    assert curve_difference(RUN, Path("whole") / RUN) is None


@linux
@pytest.mark.slow
def test_a_process_that_dies_ends_the_others_and_the_run_goes_on() -> None:
    options = ["--config", "quickstart", *QUICK, *DDP, "3", "--checkpoint_every_n_steps", "1", "--resume", "auto"]
    whole = fit(3, "--checkpoint_every_n_steps", "1", cwd="whole")
    for victim in (2, 0):
        process = start("mnist-lit", "fit", *options, "--trainer.max_epochs", "2")
        before = steps()
        wait_until(lambda before=before: steps() > before + 1, process)  # type: ignore[misc]
        everyone = [process.pid, *children(process)]
        os.kill(everyone[victim], signal.SIGKILL)
        assert process.wait(30) in (1, -signal.SIGKILL)
        time.sleep(1)
        assert not any(map(alive, everyone))
        assert "Traceback" not in Path("out").read_text()
    assert start("mnist-lit", "fit", *options).wait(120) == 0, Path("out").read_text()
    assert state_difference(load_checkpoint(RUN / "checkpoints/last.ckpt"), whole) is None


@pytest.mark.slow
def test_two_nodes_train_as_one_machine() -> None:
    whole = fit(2, cwd="whole")
    (torchrun,) = (line for line in COMMANDS if "--nnodes" in line)
    nodes = [start(*torchrun, *QUICK, out=f"node_{number}") for number in range(2)]
    assert [node.wait(240) for node in nodes] == [0, 0], Path("node_0").read_text() + Path("node_1").read_text()
    assert all_runs(Path("lightning_logs")) == [RUN]
    assert state_difference(load_checkpoint(RUN / "checkpoints/last.ckpt"), whole) is None
    # and a finished one says so on all of them
    nodes = [start(*torchrun, *QUICK, out=f"node_{number}") for number in range(2)]
    assert [node.wait(240) for node in nodes] == [0, 0], Path("node_0").read_text() + Path("node_1").read_text()
    assert "is finished" in Path("node_0").read_text() + Path("node_1").read_text()


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(cli: Cli) -> None:
    one = [*QUICK, "--model.optimizer", "sgd", "--model.lr", "0.001", "--model.momentum", "0"]
    alone = fit(1, *one, cwd="alone")
    options = ["--config", "quickstart", *one, "--checkpoint_every_n_steps", "1", "--resume", "auto"]
    process = start("mnist-lit", "fit", *options, *DDP, "3")
    wait_until(lambda: steps() > 2, process)
    process.terminate()
    assert process.wait(30) == 143
    assert cli("fit", *options, "--trainer.accelerator", "cpu")[0] == 0
    assert column(".", "train/loss") == pytest.approx(column("alone", "train/loss"), rel=1e-5)
    assert load_checkpoint(RUN / "checkpoints/last.ckpt")["global_step"] == alone["global_step"]


@pytest.mark.slow
def test_the_pages_other_commands_run() -> None:
    for line in COMMANDS:
        if line[0] == "mnist-lit":
            assert start(*line, *QUICK).wait(240) == 0, Path("out").read_text()
    assert "equal: " in Path("out").read_text()


def test_two_fits_at_once_get_two_folders_and_share_nothing() -> None:
    alone = fit(1, cwd="alone")
    both = [start("mnist-lit", "fit", "--config", "quickstart", *QUICK, out=f"out_{n}") for n in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    for number in range(2):
        run = Path(f"lightning_logs/version_{number}")
        assert state_difference(load_checkpoint(run / "checkpoints/last.ckpt"), alone) is None
        assert curve_difference(run, Path("alone") / RUN) is None
    assert len(list(Path("lightning_logs").iterdir())) == 2
