"""`mnist-lit serve`: which model it serves, where it listens, and that its process has no torch."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the serve extra is not installed")

from mnist_lit.cli.serve import _exported_model
from mnist_lit.errors import InputError
from mnist_lit.inference.reader import DigitReader
from mnist_lit.inference.serve.limits import Limits
from mnist_lit.runs.locate import PRETRAINED_DIR

Cli = Callable[..., tuple[int, str, str]]
MODEL = PRETRAINED_DIR / "model.onnx"


@pytest.fixture
def checkpoint() -> Path:
    """The newest run's checkpoint, empty."""
    path = Path("lightning_logs/version_0/checkpoints/best.ckpt")
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_the_process_has_no_torch() -> None:
    program = """
import sys, threading, os, signal, time, urllib.request
from mnist_lit.inference.serve import server
run = server.Server.run
def watched(self, sockets):
    def look():
        urllib.request.urlopen("http://127.0.0.1:%d/health" % sockets[0].getsockname()[1]).read()
        print([name for name in sys.modules if name.partition(".")[0] in ("torch", "torchvision", "lightning")])
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Thread(target=look).start()
    run(self, sockets)
server.Server.run = watched
from mnist_lit.cli.main import main
sys.exit(main(["serve", "--model", sys.argv[1], "--port", "0"]))
"""
    done = subprocess.run([sys.executable, "-c", program, str(MODEL)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1] == "[]"


def test_a_port_in_use_and_invalid_options_are_one_line(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, out, err = cli("serve", "--model", str(MODEL), "--port", port)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"cannot listen on 127.0.0.1, port {port}" in err
    for option in ("--host no.such.host.invalid", "--port 70000"):
        code, out, err = cli("serve", "--model", str(MODEL), *option.split())
        assert (code, out, err.count("\n")) == (2, "", 1)
    for option in ("--threads 0", "--threads 1000000", "--max_mb 201", "--max_seconds 0", "--timeout 99999999999"):
        code, out, err = cli("serve", "--model", str(MODEL), "--port", "99999", *option.split())
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"mnist-lit: {option.split()[0]}: expected 1 … ")
    for host in ("a..b", f"{'a' * 64}.example"):  # not even looked up
        code, out, err = cli("serve", "--model", str(MODEL), "--host", host, "--port", "0")
        assert (code, out, err) == (2, "", f"mnist-lit: --host: expected a host name or an address, got {host}\n")
    assert cli("serve", "--host", "")[2] == "mnist-lit: --host: expected a host name or an address, got nothing\n"
    code, out, err = cli("serve", "--model", str(MODEL), "--host", "192.0.2.1")  # documentation's, RFC 5737
    assert (code, out, err.count("\n"), err.count("192.0.2.1")) == (2, "", 1, 1)
    assert "--host takes an address of this machine" in err


def test_help_names_the_servers_own_defaults_and_every_maximum(cli: Cli) -> None:
    limits, text = Limits(), " ".join(cli("serve", "--help")[1].split())
    assert f"pictures read at the same time, up to 256 (default: {limits.threads})" in text
    assert f"in MiB, up to {limits.bodies >> 20} (default: {limits.body >> 20})" in text
    assert f"find a picture's digits, up to 3600 (default: {limits.reading})" in text
    assert f"keep reading a response, up to 3600 (default: {limits.seconds})" in text


def test_help_does_not_import_the_server() -> None:
    program = """
import atexit, sys
from mnist_lit.cli.main import main
atexit.register(lambda: print([name for name in ("fastapi", "starlette", "uvicorn") if name in sys.modules]))
main(["serve", "--help"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")


@pytest.mark.parametrize(
    "name",
    ["https://example.org", "", "*", "example.org:8000", "example.org/", "bücher.example", "[::1]", "example.org."],
)
def test_a_host_name_that_matches_no_request_is_refused_in_one_line(name: str, cli: Cli) -> None:
    code, out, err = cli("serve", "--model", str(MODEL), "--allowed_host", name, "--port", "99999")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("mnist-lit: --allowed_host: expected a host name without scheme or port, got ")


@pytest.mark.parametrize("name", ["example.org", "Digits.example", "my_machine", "10.0.0.1", "fe80::1", "::1"])
def test_a_host_name_is_accepted(name: str, cli: Cli) -> None:
    code, _, err = cli("serve", "--model", str(MODEL), "--allowed_host", name, "--port", "99999")  # the next error
    assert (code, "--port" in err) == (2, True)


@pytest.mark.parametrize(
    "origin",
    [
        "example.org",
        "*",
        "null",
        "https://example.org/",
        "https://example.org/page",
        "https://*.example.org",
        "https://Example.org",
        "https://example.org:443",
        "http://example.org:80",
        "https://user@example.org",
        "ftp://example.org",
        "https://",
        "https://example.org,https://example.net",
        "https://example.org\n",
        "",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused_in_one_line(origin: str, cli: Cli) -> None:
    code, out, err = cli("serve", "--model", str(MODEL), "--allow_origin", origin)
    assert (code, out) == (2, "")
    assert err.rstrip("\n").startswith("mnist-lit: --allow_origin: expected https://NAME or http://NAME, ")


@pytest.mark.parametrize(
    "origin", ["https://example.org", "http://localhost:3000", "https://example.org:80", "http://[::1]:8080"]
)
def test_an_origin_as_browsers_send_it_is_accepted(origin: str, cli: Cli) -> None:
    code, _, err = cli("serve", "--model", str(MODEL), "--allow_origin", origin, "--port", "99999")  # the next error
    assert (code, "--port" in err) == (2, True)


@pytest.mark.parametrize("package", ["fastapi", "fastapi_offline", "prometheus_client", "python_multipart", "uvicorn"])
def test_a_missing_package_is_named_with_its_extra(package: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("answers", "app", "bodies", "limits", "metrics", "server"):
        monkeypatch.delitem(sys.modules, f"mnist_lit.inference.serve.{module}", raising=False)
        monkeypatch.delattr(f"mnist_lit.inference.serve.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = cli("serve", "--model", str(MODEL), "--port", "99999")  # the next error
    assert (code, err.count("\n")) == (2, 1)
    assert f"serving needs {package}; pip install 'mnist-lit[serve]'" in err


def test_a_checkpoint_has_to_be_exported_first(cli: Cli, checkpoint: Path) -> None:
    for model in (str(checkpoint), "latest", "lightning_logs/version_0"):
        code, _, err = cli("serve", "--model", model)
        assert (code, err.count("\n")) == (2, 1)
        assert f"serve what `mnist-lit export --model {checkpoint} --output FILE` writes" in err


def test_without_runs_the_shipped_model_is_served() -> None:
    assert _exported_model(None) == (DigitReader.load("pretrained").path, "")


def test_the_newest_runs_exported_model_is_served_if_there_is_one(checkpoint: Path) -> None:
    assert "the newest run has no model.onnx" in _exported_model(None)[1]
    exported = Path("lightning_logs/version_0/model.onnx")
    exported.write_bytes(MODEL.read_bytes())
    assert _exported_model(None) == _exported_model("latest") == (exported, "")
    last = checkpoint.with_name("last.ckpt")
    last.write_bytes(checkpoint.read_bytes())
    with pytest.raises(InputError, match=r"got the checkpoint lightning_logs/version_0/checkpoints/last\.ckpt"):
        _exported_model("last")  # the exported model is the best checkpoint's
    exported_last = exported.with_name("model_last.onnx")
    exported_last.write_bytes(MODEL.read_bytes())
    assert _exported_model("last") == (exported_last, "")
    os.utime(checkpoint, (time.time() + 9,) * 2)
    assert _exported_model(None)[1] == " (older than its checkpoint; `mnist-lit export` updates it)"


def test_every_option_reaches_the_server(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def create(reader: DigitReader, **options: Any) -> None:
        seen.update(options, threshold=reader.threshold)
        raise InputError("enough")

    monkeypatch.setattr("mnist_lit.inference.serve.app.create_app", create)
    options = "--threshold 0.25 --max_mb 7 --timeout 8 --max_seconds 9 --threads 3 --host 127.0.0.2"
    names = "--allowed_host digits.example --allow_origin https://example.org"
    assert cli("serve", "--model", str(MODEL), *options.split(), *names.split())[2] == "mnist-lit: enough\n"
    assert seen == {
        "hosts": ["127.0.0.2", "digits.example"],
        "origins": ["https://example.org"],
        "limits": Limits(body=7 << 20, seconds=8, reading=9, threads=3),
        "threshold": 0.25,
    }
