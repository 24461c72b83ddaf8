"""Several processes train and evaluate like one.

By subprocess, because Lightning starts the command again for every other process. Two processes take seconds to import
torch, so the tests share the run of two processes that nothing interrupts.
"""

import contextlib
import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from few_digits import FEW_DIGITS
from mnist_lit.errors import InputError
from mnist_lit.experiments.verify_resume import curve_difference, state_difference
from mnist_lit.runs.checkpoint import load_checkpoint
from mnist_lit.runs.folders import LAST_CKPT, all_runs

Cli = Callable[..., tuple[int, str, str]]

DOCS = Path(__file__).parents[2] / "docs"
PAGE = "".join(DOCS.joinpath(f"{page}.md").read_text(encoding="utf-8") for page in ("distributed", "resume"))
COMMANDS = [shlex.split(line) for line in re.findall(r"```sh\n(.*?)\n```", PAGE)]
RUN = Path("lightning_logs/version_0")
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISTRIBUTED_DEBUG": "OFF"}
DDP = ("--trainer.accelerator", "cpu", "--trainer.strategy", "ddp", "--trainer.devices")
QUICK = (*FEW_DIGITS, "--trainer.max_epochs", "2")  # 5 steps per epoch
QUICKSTART = ("--config", "quickstart", *QUICK)
# 1,257 images in steps of 157: the ninth has one image, and rank 0 has none of it
UNEVEN = ("--data.dataset", "digits", "--data.val_size", "180", "--data.batch_size", "157", "--model.lr", "0.05")
FEWER = ("--data.fraction", "0.125", "--data.batch_size", "39")  # 157 images: the same in the fifth step
PLAIN_SGD = ("--model.momentum", "0", "--model.schedule", "constant", "--data.degrees", "15")
ONE_EPOCH = (*PLAIN_SGD, "--trainer.max_epochs", "1", "--trainer.log_every_n_steps", "1")
FEW_STEPS = ("--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "1")

pytestmark = pytest.mark.usefixtures("small_calibration")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def run_in(folder: Path, *args: str) -> str:
    """Run `mnist-lit` in a folder; returns what all its processes printed."""
    program = [sys.executable, "-m", "mnist_lit", *args]
    run = subprocess.run(program, cwd=folder, env=ENV, capture_output=True, text=True, check=False, timeout=900)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("images  ") <= 1, "more than one process printed"
    return run.stdout


def start(*args: str, out: str = "out") -> subprocess.Popen[bytes]:
    """Start `mnist-lit` or a command of the page with this environment's programs; its output goes to a file."""
    variables = dict(arg.split("=") for arg in args[:1] if "=" in arg)
    name, *options = args[len(variables) :]
    module = {"mnist-lit": "mnist_lit", "torchrun": "torch.distributed.run"}[name]
    program = [sys.executable, "-m", module, *options]
    with Path(out).open("ab") as file:
        return subprocess.Popen(program, stdout=file, stderr=subprocess.STDOUT, env=ENV | variables)


def wait_until(done: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert process.poll() is None, Path("out").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def saved_steps() -> int:
    with contextlib.suppress(InputError, OSError):  # nothing saved yet, or the file is just being renamed
        return int(load_checkpoint(RUN / "checkpoints" / LAST_CKPT)["global_step"])
    return 0


def children(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_ended(processes: Sequence[int]) -> None:
    """Rank 0 does not wait for the others, which may take a moment longer on a busy machine."""
    deadline = time.monotonic() + 10
    while any(map(is_alive, processes)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_same_run(one: Path, other: Path, *, curves: bool = True) -> None:
    """Bit for bit, in the folders that hold lightning_logs."""
    states = (load_checkpoint(folder / RUN / "checkpoints" / LAST_CKPT) for folder in (one, other))
    assert state_difference(*states) is None
    assert not curves or curve_difference(one / RUN, other / RUN) is None


@pytest.fixture
def uneven_run(make_once: Callable[..., Path]) -> Path:
    """The folder of a run of two processes with uneven steps; read-only."""
    return make_once("uneven_run", lambda folder: run_in(folder, "fit", *UNEVEN, *FEWER, *ONE_EPOCH, *DDP, "2"))


@pytest.fixture
def longer_run(make_once: Callable[..., Path]) -> Path:
    """The same in nine steps."""
    return make_once("longer_run", lambda folder: run_in(folder, "fit", *UNEVEN, *ONE_EPOCH, *DDP, "2"))


@pytest.fixture
def quickstart_run(make_once: Callable[..., Path]) -> Path:
    """The folder of a quickstart run of two processes; read-only."""
    options = (*DDP, "2", "--checkpoint_every_n_steps", "1")
    return make_once("quickstart_run", lambda folder: run_in(folder, "fit", *QUICKSTART, *options))


def column(folder: Path, name: str) -> list[float]:
    with folder.joinpath(RUN, "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def image_tags(folder: Path) -> list[str]:
    return list(EventAccumulator(str(folder / RUN)).Reload().Tags()["images"])


def compare_with_one_process(
    cli: Cli, two: Path, fit: Sequence[str], steps: int, *, near: float = 1e-5, other: Sequence[str] = ()
) -> None:
    """The same losses, step by step, and the same scores; the control, with another option, is further away."""
    one, control = Path("one"), Path("control")
    for folder, options in ((one, ()), (control, (*(other or ("--seed_everything", "1")), *FEW_STEPS))):
        folder.mkdir()
        with contextlib.chdir(folder):
            assert cli("fit", *fit, "--trainer.accelerator", "cpu", *options)[0] == 0
    losses, expected, others = (column(folder, "train/loss_step") for folder in (two, one, control))
    assert len(expected) == steps
    assert losses == pytest.approx(expected, rel=near)
    assert others != pytest.approx(expected[: len(others)], rel=1e-4)
    for name in ("train/acc", "train/loss", "val/loss"):
        assert column(two, name) == pytest.approx(column(one, name), rel=1e-3, abs=1e-5)
    assert image_tags(two) == image_tags(one)


def test_two_processes_train_as_one_with_an_empty_shard_at_the_end(cli: Cli, uneven_run: Path) -> None:
    compare_with_one_process(cli, uneven_run, (*UNEVEN, *FEWER, *ONE_EPOCH), steps=5)


@pytest.mark.slow
def test_two_processes_take_the_same_sam_steps_as_one(cli: Cli, tmp_path: Path) -> None:
    # in double precision, as SAM amplifies rounding: its gradient jumps where rounding moves a pooling's maximum
    fit = (*UNEVEN, *ONE_EPOCH, "--model.sam_rho", "0.05", "--trainer.precision", "64-true")
    two = tmp_path / "two"
    two.mkdir()
    run_in(two, "fit", *fit, *DDP, "2")
    compare_with_one_process(cli, two, fit, steps=9, near=1e-9, other=("--model.sam_rho", "0"))


@pytest.mark.slow
def test_two_processes_train_as_one_on_mnist(cli: Cli, mnist_dir: str, tmp_path: Path) -> None:
    # at the tutorial's rate; at 0.05 training itself amplifies rounding from 2e-6 to 1 in some 50 steps
    fit = ("--config", "tutorial", "--data.data_dir", mnist_dir, *ONE_EPOCH, "--trainer.limit_train_batches", "30")
    two = tmp_path / "two"
    two.mkdir()
    run_in(two, "fit", *fit, *DDP, "2")
    compare_with_one_process(cli, two, fit, steps=30)


@pytest.mark.slow
def test_three_processes_score_every_test_image_once(cli: Cli, tiny_run: Path) -> None:
    test = ("test", "--ckpt_path", str(tiny_run / "checkpoints/best.ckpt"), "--data.batch_size", "51")  # 360 = 7·51 + 3
    one_process = cli(*test, "--trainer.accelerator", "cpu")[1]
    rows = tiny_run.joinpath("predictions.csv").read_text()
    three_processes = run_in(Path(), *test, *DDP, "3")
    assert "images        360" in one_process
    assert [line for line in three_processes.splitlines() if "/loss" not in line] == [
        line for line in one_process.splitlines() if "/loss" not in line
    ]
    again = tiny_run.joinpath("predictions.csv").read_text()
    assert [row.split(",")[:3] for row in again.splitlines()] == [row.split(",")[:3] for row in rows.splitlines()]


@pytest.mark.slow
def test_two_processes_that_diverge_report_it_once() -> None:
    fit = ["fit", "--data.dataset", "digits", "--data.val_size", "96", "--data.batch_size", "64", "--model.lr", "1e30"]
    program = [sys.executable, "-m", "mnist_lit", *fit, *DDP, "2", "--trainer.accumulate_grad_batches", "2"]
    run = subprocess.run(program, env=ENV, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 2
    assert [line.partition(",")[0] for line in run.stderr.splitlines()] == ["mnist-lit: the loss is nan at step 10"]


@pytest.mark.slow
@linux
@pytest.mark.parametrize(
    "ranks", [[1], pytest.param([0], marks=pytest.mark.slow), pytest.param([0, 1], marks=pytest.mark.slow)], ids=str
)
def test_a_signal_to_any_process_saves_and_stops_all_and_the_run_resumes(ranks: list[int], longer_run: Path) -> None:
    fit = ("fit", *UNEVEN, *ONE_EPOCH, *DDP, "2", "--checkpoint_every_n_steps", "1", "--resume", "auto")
    process = start("mnist-lit", *fit)
    wait_until(lambda: saved_steps() > 0, process)
    processes = [process.pid, *children(process)]
    for rank in ranks:
        os.kill(processes[rank], signal.SIGTERM)
    assert process.wait(30) == 143, Path("out").read_text()
    assert "stopped by SIGTERM at step" in Path("out").read_text()
    assert 0 < saved_steps() < 9
    assert_ended(processes)
    process = start("mnist-lit", *fit)
    assert process.wait(120) == 0, Path("out").read_text()
    assert_same_run(Path(), longer_run)


@linux
@pytest.mark.slow
def test_torchrun_restarts_a_killed_process_and_the_run_resumes_to_the_same_bits(quickstart_run: Path) -> None:
    (torchrun,) = (line for line in COMMANDS if "--max-restarts" in line)
    process = start(*torchrun, *QUICK, "--checkpoint_every_n_steps", "1")
    wait_until(lambda: saved_steps() > 2, process)
    os.kill(children(process)[-1], signal.SIGKILL)
    assert process.wait(240) == 0, Path("out").read_text()
    assert re.search(r"fit: \S+, resuming at step \d+", Path("out").read_text())
    assert all_runs(Path("lightning_logs")) == [RUN]
    assert_same_run(Path(), quickstart_run)


@linux
@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_run_resumes(tmp_path: Path) -> None:
    fit = ("fit", *QUICKSTART, *DDP, "3", "--checkpoint_every_n_steps", "1")
    uninterrupted = tmp_path / "uninterrupted"
    uninterrupted.mkdir()
    run_in(uninterrupted, *fit)
    for victim in (2, 0):
        process = start("mnist-lit", *fit, "--resume", "auto")
        before = saved_steps()
        wait_until(lambda before=before: saved_steps() > before + 1, process)  # type: ignore[misc]
        processes = [process.pid, *children(process)]
        os.kill(processes[victim], signal.SIGKILL)
        assert process.wait(30) in (1, -signal.SIGKILL)
        assert_ended(processes)
        assert "Traceback" not in Path("out").read_text()
    assert start("mnist-lit", *fit, "--resume", "auto").wait(120) == 0, Path("out").read_text()
    assert_same_run(Path(), uninterrupted, curves=False)


@pytest.mark.slow
def test_two_nodes_train_like_two_processes(quickstart_run: Path) -> None:
    (torchrun,) = (line for line in COMMANDS if "--nnodes" in line)
    for _ in range(2):  # the second time the run is finished, on both nodes
        nodes = [start(*torchrun, *QUICK, out=f"node_{number}") for number in range(2)]
        codes, output = [node.wait(240) for node in nodes], Path("node_0").read_text() + Path("node_1").read_text()
        assert codes == [0, 0], output
        assert all_runs(Path("lightning_logs")) == [RUN]
    assert "is finished" in output
    assert_same_run(Path(), quickstart_run)


@pytest.mark.slow
def test_a_run_resumes_with_another_number_of_processes(cli: Cli, tmp_path: Path) -> None:
    fit = ("fit", *QUICKSTART, "--model.optimizer", "sgd", "--model.lr", "0.001", "--model.momentum", "0")
    alone = tmp_path / "alone"
    alone.mkdir()
    with contextlib.chdir(alone):
        assert cli(*fit, "--trainer.accelerator", "cpu")[0] == 0
    resume = (*fit, "--checkpoint_every_n_steps", "1", "--resume", "auto")
    process = start("mnist-lit", *resume, *DDP, "3")
    wait_until(lambda: saved_steps() > 2, process)
    process.terminate()
    assert process.wait(30) == 143
    assert cli(*resume, "--trainer.accelerator", "cpu")[0] == 0
    assert column(Path(), "train/loss") == pytest.approx(column(alone, "train/loss"), rel=1e-5)
    assert load_checkpoint(RUN / "checkpoints/last.ckpt")["global_step"] == 10


@pytest.mark.slow
def test_the_other_commands_of_the_page_run() -> None:
    for line in COMMANDS:
        if line[0] == "mnist-lit":
            assert start(*line, *QUICK).wait(240) == 0, Path("out").read_text()
    assert "equal: " in Path("out").read_text()


@pytest.mark.slow
def test_two_simultaneous_fits_get_separate_folders_and_do_not_affect_each_other(cli: Cli, tmp_path: Path) -> None:
    both = [start("mnist-lit", "fit", *QUICKSTART, out=f"out_{number}") for number in range(2)]
    alone = tmp_path / "alone"
    alone.mkdir()
    with contextlib.chdir(alone):
        assert cli("fit", *QUICKSTART)[0] == 0
    assert [process.wait(120) for process in both] == [0, 0]
    # The last line announces the calibration; no library warns.
    table = ["fit:", "epochs", "time", "best", "checkpoint", "next", "curves", "fit:"]
    words = [line.split()[0] for line in Path("out_0").read_text().splitlines() if line]
    assert [word for word in words if word != "epoch"] == table
    expected = load_checkpoint(alone / RUN / "checkpoints/last.ckpt")
    for number in range(2):
        run = Path(f"lightning_logs/version_{number}")
        assert state_difference(load_checkpoint(run / "checkpoints/last.ckpt"), expected) is None
        assert curve_difference(run, alone / RUN) is None
    assert len(list(Path("lightning_logs").iterdir())) == 2
