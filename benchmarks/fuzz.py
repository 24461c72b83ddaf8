"""Mutated pictures through the reader and the server: each must give a reading or one line, within its time.

    python benchmarks/fuzz.py

PNG and JPEG files of the embedded digits get bytes altered, cut out, doubled, or their ends cut off, by a seeded
generator. A crash of the server, a traceback, or an answer that is neither a reading nor a refusal ends this with exit
code 1.
"""

import http.client
import io
import sys
import time
from collections import Counter

import numpy as np
from PIL import Image

from contest import keep, options
from mnist_lit.data.datasets import load_dataset
from mnist_lit.errors import InputError
from mnist_lit.inference.reader import DigitReader
from serve import running

SLOW = 2.0  # seconds that no file may take


def originals() -> list[bytes]:
    """Some digits as PNG and JPEG, grey, coloured, with a palette and with transparency."""
    files = []
    for number, digit in enumerate(load_dataset("digits", "").test_images[:8].numpy()):
        picture = Image.fromarray(255 - digit).resize((112, 112))
        mode = ("L", "RGB", "P", "RGBA")[number % 4]
        for kind in ("PNG", "JPEG"):
            file = io.BytesIO()
            picture.convert(mode if kind == "PNG" else ("L", "RGB")[number % 2]).save(file, kind)
            files.append(file.getvalue())
    return files


def mutated(content: bytes, draw: np.random.Generator) -> bytes:
    """The file with one to eight small damages."""
    changed = bytearray(content)
    for _ in range(draw.integers(1, 9)):
        place = int(draw.integers(len(changed)))
        match draw.integers(5):
            case 0:
                changed[place] = draw.integers(256)
            case 1:
                changed[place] ^= 1 << draw.integers(8)
            case 2:
                del changed[place : place + int(draw.integers(1, 40))]
            case 3:
                changed[place:place] = changed[place : place + int(draw.integers(1, 40))]
            case 4 if len(changed) > 60:
                del changed[max(place, 50) :]
        if not changed:
            return content[:20]
    return bytes(changed)


def main() -> int:
    """Count what came of them."""
    asked = options(__doc__, files=10_000, model="pretrained").parse_args()
    draw = np.random.default_rng(0)
    files = originals()
    reader = DigitReader.load(asked.model)
    read: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    slowest = 0.0
    with running(asked.model) as server:
        client = server.client()
        for number in range(asked.files):
            content = mutated(files[number % len(files)], draw)
            begun = time.perf_counter()
            try:
                read[reader.read(content).status] += 1
            except InputError as refused:
                read["refused in one line" if "\n" not in str(refused) else "refused in several"] += 1
            slowest = max(slowest, time.perf_counter() - begun)
            try:
                client.request("POST", "/predict", content, {"Content-Type": "image/png"})
                answer = client.getresponse()
                answer.read()
                answered[str(answer.status)] += 1
            except (http.client.HTTPException, OSError) as error:
                answered[type(error).__name__] += 1
                client = server.client()
        alive = server.process.poll() is None
    print(f"| {asked.files:,} files | |\n|---|---|")
    print(*(f"| reader: {what} | {count:,} |" for what, count in sorted(read.items())), sep="\n")
    print(*(f"| server: {what} | {count:,} |" for what, count in sorted(answered.items())), sep="\n")
    print(f"| slowest reading | {slowest:.2f} s |\n| the server lives | {alive} |")
    found = {"read": dict(read), "answered": dict(answered), "slowest_s": slowest, "server_lives": alive}
    keep(asked.output, "Fuzz", {"files": asked.files, **found})
    return int(not alive or slowest > SLOW or bool(set(answered) - {"200", "400", "413", "415", "422"}))


if __name__ == "__main__":
    sys.exit(main())
