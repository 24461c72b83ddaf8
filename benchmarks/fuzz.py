"""Send mutated pictures to the reader and the server: each must give a reading or a one-line error, in time.

    python benchmarks/fuzz.py

A seeded generator changes, deletes and duplicates bytes of PNG and JPEG files of the embedded digits, or truncates
them. Exits with code 1 if the server crashes or answers with an unexpected status, if an error is not one line, or if
a reading takes too long; an unexpected exception of the reader ends the run with its traceback.
"""

import http.client
import io
import sys
import time
from collections import Counter

import numpy as np
from PIL import Image

from measurement import benchmark_parser, save_results
from mnist_lit.data.datasets import load_dataset
from mnist_lit.errors import InputError
from mnist_lit.inference.reader import DigitReader
from serve import running

MAX_SECONDS = 2.0  # for reading one file
STATUSES = {"200", "400", "413", "415", "422"}  # a reading, or a refusal
MULTILINE = "refused in several"


def original_files() -> list[bytes]:
    """Eight digits as PNG and JPEG files: grayscale, RGB, with a palette and with transparency."""
    files = []
    for number, digit in enumerate(load_dataset("digits", "").test_images[:8].numpy()):
        picture = Image.fromarray(255 - digit).resize((112, 112))
        for kind, modes in (("PNG", ("L", "RGB", "P", "RGBA")), ("JPEG", ("L", "RGB"))):
            file = io.BytesIO()
            picture.convert(modes[number % len(modes)]).save(file, kind)
            files.append(file.getvalue())
    return files


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one to eight places."""
    mutated = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        position = int(rng.integers(len(mutated)))
        match rng.integers(5):
            case 0:
                mutated[position] = rng.integers(256)
            case 1:
                mutated[position] ^= 1 << rng.integers(8)
            case 2:
                del mutated[position : position + int(rng.integers(1, 40))]
            case 3:
                mutated[position:position] = mutated[position : position + int(rng.integers(1, 40))]
            case 4 if len(mutated) > 60:
                del mutated[max(position, 50) :]
        if not mutated:
            return content[:20]
    return bytes(mutated)


def main() -> int:
    """Count the outcomes; returns 1 if any of them is a defect."""
    options = benchmark_parser(__doc__, files=10_000, model="pretrained").parse_args()
    rng = np.random.default_rng(0)
    files = original_files()
    reader = DigitReader.load(options.model)
    read: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    slowest = 0.0
    with running(options.model) as server:
        client = server.client()
        for number in range(options.files):
            content = mutate(files[number % len(files)], rng)
            start = time.perf_counter()
            try:
                read[reader.read(content).status] += 1
            except InputError as error:
                read[MULTILINE if "\n" in str(error) else "refused in one line"] += 1
            slowest = max(slowest, time.perf_counter() - start)
            try:
                client.request("POST", "/predict", content, {"Content-Type": "image/png"})
                answer = client.getresponse()
                answer.read()
                answered[str(answer.status)] += 1
            except (http.client.HTTPException, OSError) as error:
                answered[type(error).__name__] += 1
                client = server.client()
        alive = server.process.poll() is None
    print(f"| {options.files:,} files | |\n|---|---|")
    print(*(f"| reader: {outcome} | {count:,} |" for outcome, count in sorted(read.items())), sep="\n")
    print(*(f"| server: {outcome} | {count:,} |" for outcome, count in sorted(answered.items())), sep="\n")
    print(f"| slowest reading | {slowest:.2f} s |\n| server still running | {alive} |")
    results = {"read": dict(read), "answered": dict(answered), "slowest_s": slowest, "server_lives": alive}
    save_results(options.output, "Fuzz", {"files": options.files, **results})
    return int(not alive or slowest > MAX_SECONDS or MULTILINE in read or bool({*answered} - STATUSES))


if __name__ == "__main__":
    sys.exit(main())
