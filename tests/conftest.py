"""Shared fixtures. Every test runs in its own empty folder and on one thread.

There is a pytest-xdist worker for each core, so torch and the processes that tests start may use one thread each.
"""

import contextlib
import copy
import functools
import http.server
import io
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import lightning.pytorch  # noqa: F401  # first: `Optional[Union[float, int]]` evaluated elsewhere would change its options
import pytest
import torch
from filelock import FileLock

from mnist_lit.captured_step import CapturedStep
from mnist_lit.cli.main import main
from mnist_lit.data.datasets import DatasetName, load_dataset
from mnist_lit.data.in_memory import InMemoryDataset
from mnist_lit.data.loaders import Batch
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.evaluation import calibration
from mnist_lit.system.malloc import keep_freed_memory

keep_freed_memory()
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("MNIST_LIT_TEST_GPU", "")  # only `make test-gpu` sees GPUs


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)  # set by every command that an earlier test has run
    return tmp_path


@pytest.fixture(scope="session", autouse=True)
def _embedded_digits_are_read_once() -> Iterator[None]:
    """Placing 1,797 digits into 28×28 takes 0.3 CPU seconds, a short fit 1; every test gets its own copy."""
    digits = functools.cache(lambda: load_dataset("digits", ""))

    def load(dataset: DatasetName, data_dir: str | Path, *split: Any) -> InMemoryDataset:
        return copy.deepcopy(digits()) if dataset == "digits" else load_dataset(dataset, data_dir, *split)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnist_lit.datamodule.load_dataset", load)
        yield


def run_in_process(command: str, args: list[str], *, stdout: IO[bytes] | int | None = None, **popen: Any) -> int:
    """Replaces `run_command`, without its seconds of imports; with `stdout`, what the command prints goes there."""
    printed, failed = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        if stdout:
            stack.enter_context(contextlib.redirect_stdout(printed))
            stack.enter_context(contextlib.redirect_stderr(failed))
        try:
            code = main([command, *args])
        except SystemExit as stop:  # of --help and --print_config
            code = int(stop.code or 0)
    if stdout and not isinstance(stdout, int):
        stdout.write(printed.getvalue().encode())
        popen["stderr"].write(failed.getvalue().encode())
    return code


@pytest.fixture(scope="session", autouse=True)
def _commands_start_no_processes() -> Iterator[None]:
    """Reports, groups and sweeps run their commands in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnist_lit.cli.execute.die_with_parent", lambda: None)  # not this process
        for module in ("evaluation.report.build", "experiments.seeds", "experiments.sweep"):
            patch.setattr(f"mnist_lit.{module}.run_command", run_in_process)
        yield


@pytest.fixture
def captured_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that run as captured ones."""
    steps: list[int] = []
    original = CapturedStep.__call__

    def counting(self: CapturedStep, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        steps.append(step)
        return original(self, batch, step)

    monkeypatch.setattr(CapturedStep, "__call__", counting)
    return steps


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data beside the project, on machines that have one."""
    folder = os.environ.get("MNIST_LIT_SHARED")
    if not folder:
        pytest.skip("needs real data: MNIST_LIT_SHARED is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def mnist_dir(shared: Path) -> str:
    """The folder of the four real archives."""
    return str(shared / "mnist")


@pytest.fixture(scope="session")
def digits_data() -> MNISTDataModule:
    """The embedded digits, set up; read-only."""
    data = MNISTDataModule(dataset="digits", val_size=180)
    data.setup()
    return data


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Fill a folder once per test session: the first pytest-xdist worker that needs it does, the others reuse it."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # left by a worker that failed
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def trained(make_once: Callable[..., Path]) -> Path:
    """The folder of a calibrated run on the embedded digits; read-only."""

    def fit(folder: Path) -> None:
        options = ("--trainer.max_epochs", "3", "--figures", "false", "--trainer.default_root_dir", str(folder))
        assert main(["fit", "--config", "quickstart", *options]) == 0

    return make_once("trained", fit) / "lightning_logs" / "version_0"


class ReportOutput(NamedTuple):
    """What the command left: a run that was not tested before, its page and its JSON object, and standard error."""

    run: Path
    page: str
    numbers: dict[str, Any]
    messages: str


@pytest.fixture(scope="session")
def report_output(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> ReportOutput:
    run = tmp_path_factory.mktemp("report") / "lightning_logs" / "version_0"
    shutil.copytree(trained, run)
    run.joinpath("predictions.csv").unlink(missing_ok=True)
    messages, out = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(messages), contextlib.redirect_stdout(out):
        assert main(["report", str(run), "--images", "40"]) == 0
        assert main(["report", str(run), "--images", "40", "--json"]) == 0
    page = run.joinpath("report.html").read_text(encoding="utf-8")
    return ReportOutput(run, page, json.loads(out.getvalue().splitlines()[-1]), messages.getvalue())


@pytest.fixture
def small_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrate on a dozen images instead of hundreds, which would take longer than the rest of a short fit."""
    calibrate = calibration.calibrate

    def calibrate_on_few(network: Any, data: Any, train: Any, val: Any, **options: Any) -> Any:
        return calibrate(network, data, train[:12], val[:12], **options)

    monkeypatch.setattr(calibration, "calibrate", calibrate_on_few)


@pytest.fixture(scope="session")
def tiny_fit() -> tuple[str, ...]:
    """`fit` on the embedded digits, two optimizer steps per epoch."""
    data = ("--data.dataset", "digits", "--data.val_size", "64", "--data.batch_size", "8")
    return "fit", *data, "--trainer.limit_train_batches", "2"


@pytest.fixture
def tiny_run(make_once: Callable[..., Path], tiny_fit: tuple[str, ...]) -> Path:
    """A fresh copy of a run of one epoch, in lightning_logs/version_0."""

    def fit(folder: Path) -> None:
        with contextlib.chdir(folder):  # its files name no folder, so the copy is like a run that was trained there
            assert main([*tiny_fit, "--trainer.max_epochs", "1", "--model.lr", "0.03"]) == 0

    shutil.copytree(make_once("tiny_run", fit) / "lightning_logs", "lightning_logs")
    return Path("lightning_logs/version_0")


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve a folder on this machine, each file after `delay` seconds; `asked` collects the requested paths."""
    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any, asked: list[str] | None = None, delay: float = 0, **kwargs: Any) -> None:
            self.asked, self.delay = asked, delay
            super().__init__(*args, **kwargs)

        def do_GET(self) -> None:
            if self.asked is not None:
                self.asked.append(self.path)
            time.sleep(self.delay)
            super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    def start(folder: Path, asked: list[str] | None = None, delay: float = 0) -> str:
        handler = functools.partial(Quiet, directory=folder, asked=asked, delay=delay)
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `mnist-lit` in-process; returns its exit code, stdout and stderr."""

    def run(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(list(args))
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def error_line(cli: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """Run a command that must fail with exit code 2 and one line on stderr; returns that line."""

    def run(*args: str) -> str:
        code, _, err = cli(*args)
        assert (code, err.count("\n")) == (2, 1), err
        assert err.startswith("mnist-lit: ")
        return err

    return run


@pytest.fixture
def images(digits_data: MNISTDataModule) -> torch.Tensor:
    """Sixteen of the embedded digits: uint8 (16, 28, 28)."""
    return digits_data.in_memory.train_images[:16].clone()
