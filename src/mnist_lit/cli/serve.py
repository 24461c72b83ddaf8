"""`mnist-lit serve`: reads digits over HTTP, and shows a page to draw them on.

FastAPI, uvicorn and onnxruntime; no torch in the process. A leaf: nothing else knows that it is here.
"""

import contextlib
import errno
import socket
from pathlib import Path

from mnist_lit.errors import InputError, StoppedBySignal
from mnist_lit.inference.reader import DigitReader
from mnist_lit.runs.folders import run_of_checkpoint
from mnist_lit.runs.locate import PRETRAINED, locate_model
from mnist_lit.system.arguments import CommandParser

__all__ = ["main"]

EXPORTED = "model.onnx"  # in a run's folder, where `mnist-lit export` puts it


def main(command: str, args: list[str]) -> int:
    """Serve until SIGTERM or Ctrl-C, answer what is under way, and return 0.

    Raises InputError for a port that is taken, a model that cannot be served, or a missing package.
    """
    given = _parser(command).parse_args(args)
    for option in ("threads", "max_mb", "timeout"):
        if getattr(given, option) < 1:
            raise InputError(f"--{option}: expected 1 or more, got {getattr(given, option)}")
    try:
        from mnist_lit.inference.serve.app import create_app
        from mnist_lit.inference.serve.limits import Limits
        from mnist_lit.inference.serve.server import Server

        path, note = _model(given.model)
        digits = DigitReader.load(path, threshold=given.threshold)
        limits = Limits(body=given.max_mb << 20, seconds=given.timeout, threads=given.threads)
        app = create_app(digits, hosts=[given.host, *given.allowed_host], limits=limits)
    except ModuleNotFoundError as error:
        raise InputError(f"serving needs {error.name}; pip install 'mnist-lit[serve]'") from error
    with _listening(given.host, given.port) as listener:
        host, port = listener.getsockname()[:2]
        address = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        print(f"serving {path}{digits.note}{note} at {address} (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(StoppedBySignal):  # raised again by uvicorn once all is answered
            Server(app, seconds=given.timeout).run([listener])
    return 0


def _parser(command: str) -> CommandParser:
    parser = CommandParser(
        command,
        "Read digits over HTTP, and show a page to draw them on.",
    )
    parser.add_argument(
        "--model",
        metavar="PATH",
        help="an exported model, a run that has one, latest or pretrained; default: the newest run's, else pretrained",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 is all; default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one; default: 8000")
    parser.add_argument(
        "--allowed_host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that browsers may call the server by, beside localhost and its address; may be given repeatedly",
    )
    parser.add_argument("--threshold", type=float, help="what is more of an outlier is rejected; default: the model's")
    parser.add_argument("--threads", type=int, default=2, help="pictures read at a time; default: 2")
    parser.add_argument("--max_mb", type=int, default=20, help="the largest upload, in MiB; default: 20")
    parser.add_argument(
        "--timeout",
        type=int,
        default=15,
        help="seconds for a request's head, and for its body, to arrive in, and for any of its answer to be taken; "
        "default: 15",
    )
    return parser


def _model(given: str | None) -> tuple[Path, str]:
    """The exported model that is meant, and what to say of it. Raises InputError where there is only a checkpoint."""
    path = locate_model(given, "model.onnx")
    if path.suffix != ".ckpt":
        return path, ""
    exported = run_of_checkpoint(path) / EXPORTED
    if exported.is_file() and not (given and given.endswith(".ckpt")):
        old = exported.stat().st_mtime < path.stat().st_mtime
        return exported, " (older than its checkpoint; `mnist-lit export` renews it)" if old else ""
    if given is None:
        return locate_model(
            PRETRAINED, "model.onnx"
        ), f" (the newest run has no {EXPORTED}: `mnist-lit export` makes it)"
    raise InputError(
        f"{path} needs torch, which a server does without; `mnist-lit export --model {path}` makes {EXPORTED}"
    )


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises InputError where it cannot."""
    if not 0 <= port < 1 << 16:
        raise InputError(f"--port: expected 0 … 65535, got {port}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        free = "; --port 0 takes a free one" if error.errno == errno.EADDRINUSE else ""
        raise InputError(f"cannot listen at {host}, port {port}: {error.strerror}{free}") from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else an answer's body comes 40 ms after its head
    return listener
