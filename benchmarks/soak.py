"""Many requests of every kind at once: each must get one of its expected answers, and the memory must stay flat.

    python benchmarks/soak.py --requests 20000

Clients are threads of this process; request number n is of the same kind in every run. Memory is that of the server and
all its processes, where pages that several of them share count once (Linux only). Exits with code 1 if an answer is
unexpected, or if the memory at the end is more than a fifth above that after the first quarter.
"""

import http.client
import io
import itertools
import json
import struct
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fuzz import mutate, original_files
from measurement import benchmark_parser, save_results
from serve import PICTURE, Server, running

CLIENTS = 4
WARM_UP = 200  # requests before memory is measured first
GROWTH = 1.2  # of the memory from the first quarter to the end
PNG = {"Content-Type": "image/png"}


class Kind(NamedTuple):
    """A kind of request: how often, in 1,000, what it sends and which statuses are right."""

    share: int
    statuses: set[int]
    body: Callable[[int], bytes]
    path: str = "/predict"
    headers: dict[str, str] = PNG
    method: str = "POST"


def save(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """A file of an array."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def photo() -> bytes:
    """A 12-megapixel JPEG of a seven on noisy paper."""
    small = Image.open(io.BytesIO(PICTURE)).resize((4000, 3000))
    noise = np.random.default_rng(0).integers(-20, 20, (3000, 4000))
    return save((np.asarray(small, int) * 3 // 4 + 40 + noise).clip(0, 255).astype(np.uint8), "JPEG")


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG file of that size."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def chessboard(side: int, square: int) -> bytes:
    """A PNG of black and white squares."""
    row = np.arange(side) // square
    return save((np.add.outer(row, row) % 2 * 255).astype(np.uint8))


def kinds() -> dict[str, Kind]:
    """Every kind; the shares add up to 1,000."""
    originals, camera = original_files(), photo()
    pixels = json.dumps({"pixels": np.full((5, 28, 28), 200).tolist()}).encode()
    boards = chessboard(2048, 1), chessboard(1600, 7)
    narrow = png_header(1, 64_000_000) + bytes(1000)
    slow = b"P5 4400 4400 254\n" + bytes(4400 * 4400)  # scaled pixel by pixel, in Python
    white = save(np.full((8000, 8000), 255, np.uint8))

    def damaged(number: int) -> bytes:
        return mutate(originals[number % len(originals)], np.random.default_rng(number))

    return {
        "a drawing": Kind(400, {200}, lambda n: PICTURE),
        "every digit of a drawing": Kind(150, {200}, lambda n: PICTURE, "/predict?many=true"),
        "five images as JSON": Kind(80, {200}, lambda n: pixels, headers={"Content-Type": "application/json"}),
        "a 12-megapixel photo": Kind(20, {200}, lambda n: camera),
        "a damaged picture": Kind(150, {200, 400}, damaged),
        "broken JSON": Kind(40, {422}, lambda n: pixels[: n % 999], headers={"Content-Type": "application/json"}),
        "an unknown host": Kind(50, {421}, lambda n: PICTURE, headers={**PNG, "Host": "evil.example"}),
        "another site": Kind(30, {403}, lambda n: PICTURE, headers={**PNG, "Origin": "http://evil.example"}),
        "another content type": Kind(15, {415}, lambda n: PICTURE, headers={"Content-Type": "text/plain"}),
        "21 MiB": Kind(2, {413}, lambda n: b"", headers={**PNG, "Content-Length": str(21 << 20)}),
        "health": Kind(30, {200}, lambda n: b"", "/health", {}, "GET"),
        "metrics": Kind(20, {200}, lambda n: b"", "/metrics", {}, "GET"),
        "2048×2048 chessboard": Kind(5, {200}, lambda n: boards[0]),
        "1600×1600 chessboard, every digit": Kind(2, {200, 400}, lambda n: boards[1], "/predict?many=true"),
        "1×64,000,000": Kind(3, {400}, lambda n: narrow),
        "64 megapixels": Kind(2, {200, 400}, lambda n: white),
        "slower than allowed": Kind(1, {400}, lambda n: slow),
    }


def memory_mib(server: Server) -> tuple[float, float]:
    """Resident memory of the server's own process, and of all its processes together, in MiB."""

    def processes(pid: int) -> list[int]:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return [pid, *(one for child in children for one in processes(int(child)))]

    def proportional_kib(pid: int) -> int:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))

    return server.memory() / (1 << 20), sum(map(proportional_kib, processes(server.process.pid))) / (1 << 10)


def send(
    server: Server,
    every: dict[str, Kind],
    numbers: "itertools.count[int]",
    until: int,
    answers: Counter[tuple[str, str]],
) -> None:
    """Send the requests of the next numbers, one at a time, and count the answers."""
    order = [name for name, kind in every.items() for _ in range(kind.share)]
    np.random.default_rng(0).shuffle(order)
    client = server.client()
    while (number := next(numbers)) < until:
        name = order[number % len(order)]
        kind = every[name]
        try:
            client.request(kind.method, kind.path, kind.body(number), kind.headers)
            answer = client.getresponse()
            answer.read()
            status = str(answer.status)
        except (http.client.HTTPException, OSError) as error:
            status = type(error).__name__
            client.close()
        answers[name, status] += 1


def main() -> int:
    """Print the answers and the memory; returns 1 if any is a defect."""
    options = benchmark_parser(__doc__, requests=20_000, model="pretrained", max_seconds=3).parse_args()
    every, answers = kinds(), Counter[tuple[str, str]]()
    memory: dict[str, tuple[float, float]] = {}
    ends = [min(WARM_UP, options.requests), *(options.requests * quarter // 4 for quarter in range(1, 5))]
    with running(options.model, "--max_seconds", str(options.max_seconds)) as server:
        for start, end in itertools.pairwise([0, *ends]):
            numbers = itertools.count(start)
            args = (server, every, numbers, end, answers)
            threads = [threading.Thread(target=send, args=args) for _ in range(CLIENTS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            memory[f"{end:,}"] = memory_mib(server)
        alive = server.process.poll() is None
    print("| request | answers |\n|---|---|")
    for name in every:
        row = ", ".join(f"{status}: {count:,}" for (kind, status), count in sorted(answers.items()) if kind == name)
        print(f"| {name} | {row} |")
    print("\n| after requests | server, MiB | all its processes, MiB |\n|---|---|---|")
    print(*(f"| {after} | {own:.0f} | {total:.0f} |" for after, (own, total) in memory.items()), sep="\n")
    unexpected = {
        f"{name}: {status}" for name, status in answers if status not in {str(one) for one in every[name].statuses}
    }
    grown = [*memory.values()][-1][1] / [*memory.values()][1][1]
    print(f"\n{answers.total():,} answers, unexpected: {sorted(unexpected) or 'none'}; server still running: {alive}")
    counted = {f"{name}: {status}": count for (name, status), count in sorted(answers.items())}
    save_results(options.output, "Soak", {"answers": counted, "memory_mib": memory, "server_lives": alive})
    return int(bool(unexpected) or not alive or grown > GROWTH)


if __name__ == "__main__":
    sys.exit(main())
