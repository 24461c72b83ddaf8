"""`mnist-lit serve`: read digits over HTTP, with a page to draw them on. FastAPI, uvicorn and onnxruntime; no torch."""

import contextlib
import errno
import re
import socket
from argparse import Namespace
from pathlib import Path

from mnist_lit.cli.command_parser import CommandParser
from mnist_lit.errors import InputError, StoppedBySignal, require
from mnist_lit.inference.reader import DigitReader, check_threshold
from mnist_lit.inference.serve.limits import Limits
from mnist_lit.runs.folders import ONNX_FILE, export_name, run_of_checkpoint
from mnist_lit.runs.locate import MODEL_NAMES, PRETRAINED, PRETRAINED_DIR, locate_model
from mnist_lit.system.console import say

# As browsers write it (RFC 6454, section 6.2): other spellings would never match.
ORIGIN = re.compile(r"(?!http://.*:80$|https://.*:443$)https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?")

# A name or an IPv6 address, as the server compares it with a request's; browsers send other names in Punycode, xn--….
ALLOWED_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*", re.IGNORECASE | re.ASCII)
DEFAULTS = Limits()
OPTION_MAXIMUMS = {"threads": 256, "max_mb": DEFAULTS.bodies >> 20, "max_seconds": 3600, "timeout": 3600}
HOST_HINT = "; --host takes an address of this machine, or 0.0.0.0 for all of them"
HINTS = {
    errno.EADDRINUSE: "; --port 0 picks a free one",
    errno.EADDRNOTAVAIL: HOST_HINT,
    errno.EACCES: "; only root may use most ports below 1024",
    socket.EAI_NONAME: HOST_HINT,
}


def main(command: str, args: list[str]) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the responses in progress. Raises InputError for a port in use, a
    model that cannot be served or a missing package."""
    options = _parse(command, args)
    try:
        from mnist_lit.inference.serve.app import create_app
        from mnist_lit.inference.serve.server import Server

        path, note = _exported_model(options.model)
        reader = DigitReader.load(path, threshold=options.threshold)
        limits = Limits(
            body=options.max_mb << 20,
            seconds=options.timeout,
            reading=options.max_seconds,
            threads=options.threads,
        )
        hosts = [options.host, *options.allowed_host]
        app = create_app(reader, hosts=hosts, origins=options.allow_origin, limits=limits)
    except ModuleNotFoundError as error:
        raise InputError(f"serving needs {error.name}; pip install 'mnist-lit[serve]'") from error
    with _listen(options.host, options.port) as listener, app.state.processes.running():
        host, port = listener.getsockname()[:2]
        address = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        say(f"serving {path}{reader.note}{note} at {address} (Ctrl-C stops it)", flush=True)
        with contextlib.suppress(StoppedBySignal):  # uvicorn raises the signal again once it has shut down
            Server(app, seconds=options.timeout, access_log=options.access_log).run([listener])


def _parse(command: str, args: list[str]) -> Namespace:
    """The options, checked."""
    parser = CommandParser(command, "Read digits over HTTP, with a page to draw them on.")
    model = f"an exported model, a run with one, {MODEL_NAMES} (default: the newest run's, else {PRETRAINED})"
    parser.add_model_argument(model, positional=False)
    host = "address to listen on; 0.0.0.0 is every address of this machine (default: %(default)s)"
    parser.add_argument("--host", default="127.0.0.1", help=host)
    port = "port to listen on; 0 picks a free one (default: %(default)s)"
    parser.add_argument("--port", type=int, default=8000, help=port)
    names = "a host name that browsers may use, besides localhost and the address they connect to; repeat for several"
    parser.add_argument("--allowed_host", action="append", default=[], metavar="NAME", help=names)
    origins = "a site whose pages may send pictures here, such as https://example.org; repeat for several"
    parser.add_argument("--allow_origin", action="append", default=[], metavar="ORIGIN", help=origins)
    parser.add_threshold_argument()
    timeout = "seconds for a request's headers to arrive, for its body, and for the client to keep reading a response"
    for name, metavar, default, text in (
        ("threads", "N", DEFAULTS.threads, "pictures read at the same time"),
        ("max_mb", "MIB", DEFAULTS.body >> 20, "the largest upload, in MiB"),
        ("max_seconds", "SECONDS", DEFAULTS.reading, "maximum time to find a picture's digits"),
        ("timeout", "SECONDS", DEFAULTS.seconds, timeout),
    ):
        help = f"{text}, up to {OPTION_MAXIMUMS[name]} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=int, default=default, metavar=metavar, help=help)
    log = "print each request's client, path and status"
    parser.add_argument("--access_log", action="store_true", help=log)
    options: Namespace = parser.parse_args(args)
    check_threshold("--threshold", options.threshold)
    require("--host", options.host, "a host name or an address", options.host != "")
    for name, most in OPTION_MAXIMUMS.items():
        require(f"--{name}", vars(options)[name], f"1 … {most}", 1 <= vars(options)[name] <= most)
    for name in options.allowed_host:
        form = "a host name without scheme or port"
        require("--allowed_host", name or "an empty name", form, ALLOWED_HOST.fullmatch(name) is not None)
    for origin in options.allow_origin:
        form = "https://NAME or http://NAME, with a port unless it is the usual one, in lower case and without a path"
        require("--allow_origin", origin, form, ORIGIN.fullmatch(origin) is not None)
    return options


def _exported_model(model: str | None) -> tuple[Path, str]:
    """The exported model to serve and a note for the log. Raises InputError if there is only a checkpoint."""
    path = locate_model(model, ONNX_FILE)
    if path.suffix != ".ckpt":
        return path, ""
    exported = run_of_checkpoint(path) / export_name(path)
    if exported.is_file() and not (model and model.endswith(".ckpt")):
        outdated = exported.stat().st_mtime < path.stat().st_mtime
        return exported, " (older than its checkpoint; `mnist-lit export` updates it)" if outdated else ""
    if model is None:
        return PRETRAINED_DIR / ONNX_FILE, f" (the newest run has no {ONNX_FILE}; `mnist-lit export` writes it)"
    command = f"mnist-lit export --model {path} --output FILE"
    raise InputError(f"expected an exported model, got the checkpoint {path}; serve what `{command}` writes")


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises InputError if the address or port cannot be used."""
    require("--port", port, "0 … 65535", 0 <= port <= 65535)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except UnicodeError as error:
        raise InputError(f"--host: expected a host name or an address, got {host}") from error
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # the address again
        raise InputError(f"cannot listen on {host}, port {port}: {reason}{HINTS.get(error.errno or 0, '')}") from error
    # Otherwise, Nagle's algorithm delays a response's body until the client acknowledges its head, 40 ms later.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
