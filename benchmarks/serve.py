"""The server: start-up, latency, throughput, huge uploads, slow clients, and SIGTERM under load.

    python benchmarks/serve.py --output results/serve.json

Clients are threads of this process. Each has one connection and sends its next request as soon as it has an answer. For
comparison, in this process: the same picture read without HTTP, and a bare onnxruntime call on a prepared image.
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

from measurement import benchmark_parser, machine_info, save_results
from mnist_lit.inference.reader import DigitReader

GIB = 1 << 30
POST = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


class Server:
    """`mnist-lit serve` in a process of its own."""

    def __init__(self, model: str, *options: str) -> None:
        self.start = time.perf_counter()
        self.seconds_to_first_answer = 0.0
        command = [sys.executable, "-m", "mnist_lit", "serve", "--model", model, "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port = int(re.findall(r"http://\S+:(\d+)/", self.process.stdout.readline())[0])

    def client(self) -> http.client.HTTPConnection:
        """A keep-alive connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def predict(self, client: http.client.HTTPConnection, body: bytes = b"", content_type: str = "image/png") -> bool:
        """Send PICTURE, or `body`, to /predict; returns whether the server keeps the connection open."""
        client.request("POST", "/predict", body or PICTURE, {"Content-Type": content_type})
        answer = client.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        return not answer.will_close

    def connect(self, head: str) -> socket.socket:
        """A connection on which the beginning of a request was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sendall(head.encode())
        return connection

    def memory(self) -> int:
        """The server's resident memory in bytes; Linux only."""
        statm = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii")
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def picture() -> bytes:
    """A PNG file of a 7, 280×280 pixels."""
    image = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(image).line([(80, 70), (190, 65), (125, 220)], 0, 18, joint="curve")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


PICTURE = picture()


def measure_calls(call: Callable[[], object], seconds: float) -> list[float]:
    """Repeat a call for a number of seconds; returns the milliseconds of each call."""
    latencies, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        call()
        latencies.append(1000 * (time.perf_counter() - start))
    return latencies


def run_clients(make_call: Callable[[], Callable[[], object]], clients: int, seconds: float) -> dict[str, float]:
    """Run several clients at once, each repeating a call of its own; returns latencies and rate."""
    latencies: list[float] = []
    with run_threads(lambda: latencies.extend(measure_calls(make_call(), seconds)), clients):
        pass
    return {
        "clients": clients,
        "n": len(latencies),
        "median_ms": statistics.median(latencies),
        "p99_ms": statistics.quantiles(latencies, n=100)[98],
        "per_second": len(latencies) / seconds,
    }


@contextlib.contextmanager
def run_threads(target: Callable[[], object], count: int = 1) -> Iterator[None]:
    """Run `target` in `count` threads; waits for them on exit."""
    threads = [threading.Thread(target=target, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()


def measure_speed(model: str, seconds: float) -> tuple[float, dict[str, list[dict[str, float]]]]:
    """Seconds from the command to the first answer, and each variant's figures with one client and with eight."""
    reader = DigitReader.load(model)
    image = reader.read(PICTURE).image[np.newaxis]  # (1, 28, 28)
    pixels = json.dumps({"pixels": image.tolist()}).encode()
    with running(model) as server:

        def make_request(*body: Any) -> Callable[[], object]:
            client = server.client()
            return lambda: server.predict(client, *body)

        variants: dict[str, Callable[[], Callable[[], object]]] = {
            "`mnist-lit serve`, the picture": make_request,
            "`mnist-lit serve`, 28×28 pixels": lambda: make_request(pixels, "application/json"),
            "`DigitReader.read`, the picture": lambda: lambda: reader.read(PICTURE),
            "bare onnxruntime, 28×28 pixels": lambda: lambda: reader.classify(image),
        }
        figures = {name: [run_clients(make, n, seconds) for n in (1, 8)] for name, make in variants.items()}
    return server.seconds_to_first_answer, figures


def upload_gib(model: str, *, chunked: bool) -> dict[str, float]:
    """Send a GiB; returns the answer's status, the seconds until it came, and the server's memory growth in MiB."""
    with running(model) as server:
        before, peak, done = server.memory(), 0, threading.Event()

        def watch_memory() -> None:
            nonlocal peak
            while not done.wait(0.002):
                peak = max(peak, server.memory())

        def send_body() -> None:
            piece = bytes(1 << 16)
            framed = b"10000\r\n" + piece + b"\r\n" if chunked else piece
            with contextlib.suppress(OSError):  # the server hangs up
                for _ in range(GIB // len(piece)):
                    connection.sendall(framed)

        start = time.perf_counter()
        header = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {GIB}"
        with run_threads(watch_memory), server.connect(f"{POST}{header}\r\n\r\n") as connection:
            with run_threads(send_body):
                status = int(connection.recv(1 << 16).split()[1])
                seconds = time.perf_counter() - start
            done.set()
    return {"status": status, "seconds": seconds, "grew_mib": (peak - before) / (1 << 20)}


def slow_clients(model: str, clients: int, seconds: float) -> float:
    """The longest latency of /health, in ms, while so many clients send one byte every tenth of a second."""
    with running(model) as server, contextlib.ExitStack() as stack:
        heads = ["GET /health HTTP/1.1\r\nX: ", f"{POST}Content-Length: 100000\r\n\r\n"]
        connections = [stack.enter_context(server.connect(heads[n % 2])) for n in range(clients)]
        done = threading.Event()

        def send_slowly() -> None:
            while not done.wait(0.1):
                for connection in connections:
                    with contextlib.suppress(OSError):  # the server has timed it out
                        connection.sendall(b"0")

        def health() -> None:
            client = server.client()
            client.request("GET", "/health")
            assert client.getresponse().read().startswith(b'{"status":"ok"')
            client.close()

        with run_threads(send_slowly):
            worst = max(measure_calls(health, seconds))
            done.set()
    return worst


def sigterm_under_load(model: str, clients: int) -> dict[str, int]:
    """Send SIGTERM while clients request without pause: requests answered, requests lost, and the exit code.

    A request is lost if the server had accepted its connection and did not answer completely.
    """
    counts = {"answered": 0, "lost": 0}
    lock = threading.Lock()
    with running(model) as server:

        def request_until_refused() -> None:
            client = server.client()
            while True:
                try:
                    client.connect()
                except ConnectionError:
                    return  # the server no longer accepts connections
                keep_alive = True
                while keep_alive:
                    try:
                        keep_alive = server.predict(client)
                        outcome = "answered"
                    except (OSError, http.client.HTTPException):
                        keep_alive = False
                        outcome = "lost"
                    with lock:
                        counts[outcome] += 1
                client.close()

        with run_threads(request_until_refused, clients):
            time.sleep(1)
            server.process.send_signal(signal.SIGTERM)
        return {**counts, "exit_code": server.process.wait()}


@contextlib.contextmanager
def running(model: str, *options: str) -> Iterator[Server]:
    """A server that has answered once; it is stopped on exit."""
    server = Server(model, *options)
    try:
        server.predict(server.client())
        server.seconds_to_first_answer = time.perf_counter() - server.start
        yield server
    finally:
        server.process.terminate()
        server.process.communicate()


def main() -> None:
    """Measure everything in turn."""
    options = benchmark_parser(__doc__, model="pretrained", seconds=20.0, rounds=10).parse_args()
    start_up, figures = measure_speed(options.model, options.seconds)
    uploads = {
        name: upload_gib(options.model, chunked=name == "chunked") for name in ("with Content-Length", "chunked")
    }
    worst = slow_clients(options.model, 100, options.seconds)
    endings = [sigterm_under_load(options.model, 8) for _ in range(options.rounds)]
    machine: dict[str, Any] = machine_info()
    machine |= {package: importlib.metadata.version(package) for package in ("fastapi", "uvicorn", "onnxruntime")}
    versions = f"onnxruntime {machine['onnxruntime']}, uvicorn {machine['uvicorn']}"
    print(f"{machine['cpu']}, {versions}, {machine['date']}\n")
    print("| variant | clients | median ms | 99th percentile ms | per second | n |")
    print("|---|---|---|---|---|---|")
    for name, rows in figures.items():
        for row in rows:
            figure = f"{row['median_ms']:.2f} | {row['p99_ms']:.2f} | {row['per_second']:.0f} | {row['n']}"
            print(f"| {name} | {row['clients']} | {figure} |")
    print(f"\nfrom the command to the first answer: {start_up:.2f} s")
    for name, sent in uploads.items():
        answer = f"{sent['status']} after {sent['seconds']:.3f} s, {sent['grew_mib']:.1f} MiB more memory"
        print(f"1 GiB {name}: {answer}")
    print(f"/health while 100 slow clients are connected: at most {worst:.0f} ms")
    answered, lost = (sum(ending[name] for ending in endings) for name in ("answered", "lost"))
    codes = sorted({ending["exit_code"] for ending in endings})
    print(f"SIGTERM under load, {options.rounds} times: {answered} answered, {lost} lost, exit codes {codes}")
    results: dict[str, Any] = {"seconds_to_first_answer": start_up, "speed": figures, "uploads": uploads}
    results |= {"slow_clients_worst_health_ms": worst, "sigterm": endings}
    save_results(options.output, "serve", results, machine)


if __name__ == "__main__":
    main()
