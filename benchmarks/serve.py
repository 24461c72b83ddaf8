"""The server: start, latency, throughput, and what rude clients and a SIGTERM cost.

    python benchmarks/serve.py --output results/serve.json

Clients are threads of this process, each with one connection on which it asks again as soon as it is answered. Beside
them, in this process: the same picture read without HTTP, and a bare onnxruntime call on an image that lies ready.
"""

import contextlib
import http.client
import importlib.metadata
import io
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from contest import keep, machine, options
from mnist_lit.inference.reader import DigitReader

GIB = 1 << 30
POST = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


class Server:
    """`mnist-lit serve` in a process of its own."""

    def __init__(self, model: str) -> None:
        self.begun = time.perf_counter()
        self.seconds_to_first_answer = 0.0
        command = [sys.executable, "-m", "mnist_lit", "serve", "--model", model, "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        said = self.process.stdout.readline()
        self.port = int(re.findall(r"http://\S+:(\d+)/", said)[0])

    def client(self) -> http.client.HTTPConnection:
        """A connection, kept alive."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, client: http.client.HTTPConnection, body: bytes = b"", kind: str = "image/png") -> bool:
        """Have the picture, or something else, read. False where the server says that it is the connection's last."""
        client.request("POST", "/predict", body or PICTURE, {"Content-Type": kind})
        answer = client.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        return not answer.will_close

    def connect(self, head: str) -> socket.socket:
        """A connection on which this much of a request was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sendall(head.encode())
        return connection

    def memory(self) -> int:
        """Its resident bytes."""
        statm = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii")
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def picture() -> bytes:
    """A 7 of 280×280 pixels, as PNG."""
    image = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(image).line([(80, 70), (190, 65), (125, 220)], 0, 18, joint="curve")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


PICTURE = picture()


def timed(once: Callable[[], object], seconds: float) -> list[float]:
    """Call again and again for so long; the milliseconds of each call."""
    took, until = [], time.perf_counter() + seconds
    while (begun := time.perf_counter()) < until:
        once()
        took.append(1000 * (time.perf_counter() - begun))
    return took


def load(make: Callable[[], Callable[[], object]], clients: int, seconds: float) -> dict[str, float]:
    """What each of so many clients does, made by `make`, all at once for so long: latencies and rate."""
    took: list[float] = []
    threads = [threading.Thread(target=lambda: took.extend(timed(make(), seconds))) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    median, p99 = statistics.median(took), statistics.quantiles(took, n=100)[98]
    return {"clients": clients, "n": len(took), "median_ms": median, "p99_ms": p99, "per_second": len(took) / seconds}


def speed(model: str, seconds: float) -> tuple[float, dict[str, list[dict[str, float]]]]:
    """Seconds from the command to the first answer, and the contestants' figures with one client and with eight."""
    reader = DigitReader.load(model)
    image = reader.read(PICTURE).image[np.newaxis]  # (1, 28, 28)
    pixels = json.dumps({"pixels": image.tolist()}).encode()
    with running(model) as server:

        def asking(*body: Any) -> Callable[[], object]:
            client = server.client()
            return lambda: server.ask(client, *body)

        contestants: dict[str, Callable[[], Callable[[], object]]] = {
            "`mnist-lit serve`, the picture": asking,
            "`mnist-lit serve`, 28×28 pixels": lambda: asking(pixels, "application/json"),
            "`DigitReader.read`, the picture": lambda: lambda: reader.read(PICTURE),
            "bare onnxruntime, 28×28 pixels": lambda: lambda: reader.classify(image),
        }
        figures = {name: [load(make, n, seconds) for n in (1, 8)] for name, make in contestants.items()}
    return server.seconds_to_first_answer, figures


def upload(model: str, *, chunked: bool) -> dict[str, float]:
    """Send a GiB: the answer's status, the seconds until it came, and by how many MiB the server grew meanwhile."""
    with running(model) as server:
        before, peak, done = server.memory(), 0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.002):
                peak = max(peak, server.memory())

        def pour() -> None:
            piece = bytes(1 << 16)
            framed = b"10000\r\n" + piece + b"\r\n" if chunked else piece
            with contextlib.suppress(OSError):  # the server hangs up
                for _ in range(GIB // len(piece)):
                    connection.sendall(framed)

        begun = time.perf_counter()
        head = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {GIB}"
        with server.connect(f"{POST}{head}\r\n\r\n") as connection:
            threads = [threading.Thread(target=watch), threading.Thread(target=pour)]
            for thread in threads:
                thread.start()
            status = int(connection.recv(1 << 16).split()[1])
            seconds = time.perf_counter() - begun
            threads[1].join()
        done.set()
        threads[0].join()
    return {"status": status, "seconds": seconds, "grew_mib": (peak - before) / (1 << 20)}


def slow_clients(model: str, clients: int, seconds: float) -> float:
    """The longest that /health took, in milliseconds, while so many clients send a byte every tenth of a second."""
    with running(model) as server, contextlib.ExitStack() as open_ones:
        heads = ["GET /health HTTP/1.1\r\nX: ", f"{POST}Content-Length: 100000\r\n\r\n"]
        slow = [open_ones.enter_context(server.connect(heads[n % 2])) for n in range(clients)]
        done = threading.Event()

        def dribble() -> None:
            while not done.wait(0.1):
                for connection in slow:
                    with contextlib.suppress(OSError):  # its time is over
                        connection.sendall(b"0")

        def health() -> None:
            client = server.client()
            client.request("GET", "/health")
            assert client.getresponse().read().startswith(b'{"status":"ok"')
            client.close()

        thread = threading.Thread(target=dribble)
        thread.start()
        worst = max(timed(health, seconds))
        done.set()
        thread.join()
    return worst


def ending(model: str, clients: int) -> dict[str, int]:
    """Send SIGTERM while clients ask without a pause: how many were answered, how many lost, and the exit code.

    Lost is what was sent on a connection that the server took, and got no whole answer.
    """
    counts = {"answered": 0, "lost": 0}
    lock = threading.Lock()
    with running(model) as server:

        def ask() -> None:
            client = server.client()
            while True:
                try:
                    client.connect()
                except ConnectionError:
                    return  # the server takes no more
                kept = True
                while kept:
                    try:
                        kept = server.ask(client)
                    except (OSError, http.client.HTTPException):
                        kept = False
                        with lock:
                            counts["lost"] += 1
                    else:
                        with lock:
                            counts["answered"] += 1
                client.close()

        threads = [threading.Thread(target=ask) for _ in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        return {**counts, "exit_code": server.process.wait()}


@contextlib.contextmanager
def running(model: str) -> Iterator[Server]:
    """A server that has answered once, and is gone afterwards."""
    server = Server(model)
    try:
        server.ask(server.client())
        server.seconds_to_first_answer = time.perf_counter() - server.begun
        yield server
    finally:
        server.process.terminate()
        server.process.communicate()


def main() -> None:
    """Measure everything in turn."""
    parser = options(__doc__, model="pretrained", seconds=20.0, rounds=10)
    given = parser.parse_args()
    start, figures = speed(given.model, given.seconds)
    uploads = {name: upload(given.model, chunked=name == "chunked") for name in ("with Content-Length", "chunked")}
    worst = slow_clients(given.model, 100, given.seconds)
    endings = [ending(given.model, 8) for _ in range(given.rounds)]
    facts: dict[str, Any] = machine()
    for package in ("fastapi", "uvicorn", "onnxruntime"):
        facts[package] = importlib.metadata.version(package)
    print(f"{facts['cpu']}, onnxruntime {facts['onnxruntime']}, uvicorn {facts['uvicorn']}, {facts['date']}\n")
    print("| contestant | clients | median ms | 99th percentile ms | a second | n |")
    print("|---|---|---|---|---|---|")
    for name, rows in figures.items():
        for row in rows:
            figure = f"{row['median_ms']:.2f} | {row['p99_ms']:.2f} | {row['per_second']:.0f} | {row['n']}"
            print(f"| {name} | {row['clients']} | {figure} |")
    print(f"\nfrom the command to the first answer: {start:.2f} s")
    for name, sent in uploads.items():
        answer = f"{sent['status']} after {sent['seconds']:.3f} s, {sent['grew_mib']:.1f} MiB more memory"
        print(f"1 GiB {name}: {answer}")
    print(f"/health while 100 slow clients are connected: {worst:.0f} ms at worst")
    answered, lost = (sum(end[name] for end in endings) for name in ("answered", "lost"))
    print(f"SIGTERM under load, {given.rounds} times: {answered} answered, {lost} lost", end="")
    print(f", exit codes {sorted({end['exit_code'] for end in endings})}")
    found: dict[str, Any] = {"seconds_to_first_answer": start, "speed": figures, "uploads": uploads}
    keep(given.output, "serve", {**found, "slow_clients_worst_health_ms": worst, "sigterm": endings}, facts)


if __name__ == "__main__":
    main()
