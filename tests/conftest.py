"""What tests share. Every test runs in an empty folder of its own."""

import functools
import http.server
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_lit.cli.main import main
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.system.malloc import keep_freed_memory

keep_freed_memory()


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def shared() -> Path:
    """A folder with real data beside the project, on the machines that have one."""
    place = os.environ.get("MNIST_LIT_SHARED")
    if not place:
        pytest.skip("needs real data: MNIST_LIT_SHARED is not set")
    return Path(place)


@pytest.fixture(scope="session")
def mnist_dir(shared: Path) -> str:
    """The folder of the four real archives."""
    return str(shared / "mnist")


@pytest.fixture(scope="session")
def digits_data() -> MNISTDataModule:
    """The embedded digits, set up; not to be changed."""
    data = MNISTDataModule(dataset="digits", val_size=180)
    data.setup()
    return data


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on the embedded digits, calibrated; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    options = ("--trainer.max_epochs", "5", "--data.val_size", "180", "--trainer.default_root_dir", str(folder))
    assert main(["fit", "--config", "quickstart", *options]) == 0
    return folder / "lightning_logs" / "version_0"


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve a folder on this machine, each file after a delay in seconds; its address. `asked` collects the paths."""
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
    """Run `mnist-lit` in-process: its exit code, what it printed, what it complained of."""

    def run(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(list(args))
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def images() -> torch.Tensor:
    """Sixteen of the embedded digits: uint8 (16, 28, 28)."""
    data = MNISTDataModule(dataset="digits", val_size=180)
    data.setup()
    assert data.digits is not None
    return data.digits.train_images[:16]
