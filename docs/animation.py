"""Draw a number on the page of `mnist-lit serve` and save it as docs/pictures/page.gif.

    python docs/animation.py

Needs Chromium and the extras `serve` and `test`. The picture is made by hand, not by `make pictures`: browsers differ.
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from scipy.interpolate import CubicSpline

STROKES = {  # points in hundredths of the pad's side
    "2": "8,40 11,32 18,29 26,33 26,43 19,54 8,69 17,67 30,68",
    "7": "38,32 48,31 61,30 57,42 52,55 47,71",
    "5": "87,31 79,31 73,32 72,41 71,49 80,46 88,52 89,61 82,70 70,67",
}
WIDTH, HEIGHT, SCALE, FRAME_MS, HOLD_MS = 1180, 1090, 0.56, 90, 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path(__file__).parent / "pictures/page.gif")
    file = parser.parse_args().file
    with tempfile.TemporaryDirectory() as folder:  # without runs, so the shipped model is served
        command = [sys.executable, "-m", "mnist_lit", "serve", "--port", "0"]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout
            address = re.search(r"http://\S+/", server.stdout.readline())  # empty if the server has ended
            if not address:
                raise SystemExit("the server did not start")
            frames = list(_frames(address[0]))
        finally:
            server.terminate()
            server.wait(30)
    durations = [FRAME_MS] * (len(frames) - 1) + [HOLD_MS]
    palette = frames[-1].quantize(64, dither=Image.Dither.NONE)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    small[0].save(file, save_all=True, append_images=small[1:], duration=durations, loop=0, optimize=True)
    print(f"{file}: {len(frames)} frames, {file.stat().st_size / 1000:.0f} kB")


def _frames(address: str) -> Iterator[Image.Image]:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("chromium-browser"))
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(address)
        page.locator("#live").check()
        yield _shot(page)
        for points in STROKES.values():
            for point in _draw(page, points):
                if point % 4 == 0:
                    yield _shot(page)
            page.mouse.up()
            page.wait_for_timeout(400)
            yield _shot(page)
        page.wait_for_timeout(1000)
        yield _shot(page)
        browser.close()


def _draw(page: Page, points: str) -> Iterator[int]:
    """Move the mouse along a smooth line through the points, in 40 steps."""
    knots = np.array([point.split(",") for point in points.split()], float) / 100
    steps = CubicSpline(np.arange(len(knots)), knots)(np.linspace(0, len(knots) - 1, 41))
    pad = page.locator("#pad").bounding_box()
    assert pad
    for n, (x, y) in enumerate(steps):
        page.mouse.move(pad["x"] + x * pad["width"], pad["y"] + y * pad["height"])
        if n == 0:
            page.mouse.down()
        page.wait_for_timeout(15)
        yield n


def _shot(page: Page) -> Image.Image:
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return image.resize((round(image.width * SCALE), round(image.height * SCALE)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
