"""Any input becomes a plain picture, or an error of one line that says what is wrong."""

import io
import math
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, PngImagePlugin, features

from mnist_lit.errors import InputError
from mnist_lit.imaging.open_picture import MAX_SIDE, ORIGINAL_SIZE, open_picture, picture_names


def bytes_of(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def corner(color: Any = "black", mode: str = "RGB", paper: Any = "white") -> Image.Image:
    """A picture 40 wide and 20 high with ink in its upper left corner."""
    picture = Image.new(mode, (40, 20), paper)
    ImageDraw.Draw(picture).rectangle((0, 0, 9, 4), fill=color)
    return picture


def gray(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("L"))


def test_every_source_gives_the_same_picture(tmp_path: Path) -> None:
    content = bytes_of(corner())
    path = tmp_path / "corner.png"
    path.write_bytes(content)
    sources = (path, str(path), np.str_(path), content, io.BytesIO(content), corner(), np.asarray(corner()))
    loaded = [np.asarray(open_picture(source)) for source in sources]
    assert all(np.array_equal(one, loaded[0]) for one in loaded)


def test_the_given_image_is_not_changed() -> None:
    picture = corner()
    open_picture(picture).putpixel((20, 10), (1, 2, 3))
    assert picture.getpixel((20, 10)) == (255, 255, 255)


STORED_AS = {  # EXIF orientation: how a camera held that way stores the upright picture
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied(orientation: int) -> None:
    stored = corner().transpose(STORED_AS[orientation]) if orientation in STORED_AS else corner()
    exif = Image.Exif()
    exif[0x0112] = orientation
    for form in ("PNG", "TIFF"):  # which Pillow turns upright itself
        content = bytes_of(stored, form, exif=exif)
        for source in (content, Image.open(io.BytesIO(content))):  # which decodes no pixels yet
            loaded = open_picture(source)
            assert np.array_equal(np.asarray(loaded), np.asarray(corner()))
            assert loaded.info[ORIGINAL_SIZE] == (40, 20)


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF", "TGA"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_modes_and_formats_do_not_matter(mode: str, form: str) -> None:
    loaded = open_picture(bytes_of(corner().convert(mode), form))
    assert np.array_equal(gray(loaded), gray(corner()))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "I", "F", "I;16"])
def test_rare_modes_keep_dark_and_light(mode: str) -> None:
    source = corner().convert("L").convert(mode) if mode in ("I", "F", "I;16") else corner().convert(mode)
    loaded = gray(open_picture(source))
    assert loaded[2, 2] == 0
    assert loaded[10, 30] == 255


@pytest.mark.parametrize(("ink", "paper"), [("black", 255), ("white", 0)])
def test_transparent_paper_contrasts_with_the_ink(ink: str, paper: int) -> None:
    loaded = gray(open_picture(corner(ink, "RGBA", (0, 0, 0, 0))))
    assert loaded[10, 30] == paper
    assert loaded[2, 2] == 255 - paper


def test_a_light_page_with_transparent_corners_stays_light() -> None:
    page = corner("black", "RGBA")
    page.paste((0, 0, 0, 0), (36, 16, 40, 20))
    assert gray(open_picture(page))[19, 39] == 255


def test_bold_ink_with_light_edges_is_not_a_canvas() -> None:
    """It fills more than half of its box, and its antialiased edges have the tone of the background."""
    ink = Image.new("L", (60, 60))
    ImageDraw.Draw(ink).ellipse((15, 15, 45, 45), outline=255, width=11)
    rim = ink.filter(ImageFilter.GaussianBlur(1))
    drawing = Image.merge("RGBA", [*[rim.point(lambda alpha: 255 - alpha)] * 3, rim])
    loaded = gray(open_picture(drawing))
    assert (loaded[2, 2], loaded[30, 20]) == (255, 0)


def test_an_opaque_canvas_inside_a_wide_transparent_margin_is_paper() -> None:
    drawing = Image.new("RGBA", (90, 90))
    drawing.paste((255, 255, 255, 255), (25, 25, 65, 65))
    drawing.paste((0, 0, 0, 255), (40, 35, 48, 55))
    loaded = gray(open_picture(drawing))
    assert (loaded[2, 2], loaded[30, 30], loaded[45, 44]) == (255, 255, 0)
    drawing.paste((250, 250, 250, 255), (40, 35, 48, 55))  # of one tone: a white blot, or white ink
    assert gray(open_picture(drawing))[2, 2] == 0


@pytest.mark.parametrize(
    ("array", "white"),
    [
        (np.eye(8, dtype=bool), 255),
        (np.eye(8, dtype=np.float64), 255),
        (np.eye(8, dtype=np.uint8), 255),
        (np.eye(8, dtype=np.int64), 255),
        (np.eye(8, dtype=np.float32) * 255, 255),
        (np.eye(8, dtype=np.uint16) * 65535, 255),
        (np.eye(8, dtype=np.int64)[..., None] * 255, 255),
        (np.where(np.eye(8), 1.0, np.nan), 255),
    ],
)
def test_arrays_of_any_dtype_are_scaled(array: Any, white: int) -> None:
    assert np.array_equal(gray(open_picture(array)), np.eye(8) * white)


@pytest.mark.parametrize("shape", [(8, 9), (1, 8, 9), (8, 9, 1), (8, 9, 3), (1, 8, 3)])
def test_tensors_are_read_as_arrays_are(shape: tuple[int, ...]) -> None:
    tensor: Any = torch.arange(math.prod(shape), dtype=torch.uint8).reshape(shape)
    expected = open_picture(tensor.numpy()[0] if shape == (1, 8, 9) else tensor.numpy())
    assert np.array_equal(np.asarray(open_picture(tensor)), np.asarray(expected))
    assert np.array_equal(gray(open_picture(tensor / 255)), gray(open_picture(tensor.numpy() / 255)))


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (torch.ones(8, 8, requires_grad=True), "got a Tensor that NumPy cannot read (Can't call numpy() on Tensor tha"),
        (torch.ones(8, 8, device="meta"), "); pass tensor.detach().cpu()"),
        (
            torch.zeros(3, 28, 28),
            "got (3, 28, 28); read one picture at a time, with its channels last",
        ),
        (np.zeros((2, 1, 28, 28)), "got (2, 1, 28, 28); read one picture at a time, with its channels last"),
        ([np.zeros((8, 8))], "an image or an array, got list; read one picture at a time"),
        ((name for name in ("a.png",)), "an image or an array, got generator; read one picture at a time"),
    ],
)
def test_what_is_more_than_a_picture_is_refused_with_a_way_out(source: Any, line: str) -> None:
    with pytest.raises(InputError) as caught:
        open_picture(source)
    assert line in str(caught.value)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-0.42, 2.82), (-300.0, -2.0), (0.0, 16.0), (0.0, 1.001)])
def test_floats_of_an_odd_range_are_scaled_by_their_range(low: float, high: float) -> None:
    ramp = gray(open_picture(np.linspace(low, high, 256).reshape(16, 16)))
    expected = np.arange(256) if low > -300 else np.linspace(0, 255, 256)
    assert np.allclose(ramp.ravel(), expected, atol=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint16, np.int64])
def test_gray_levels_keep_their_scale(dtype: type) -> None:
    levels = np.linspace(90, 200, 64).round().reshape(8, 8)
    assert np.array_equal(gray(open_picture(levels.astype(dtype))), levels)


def test_the_highest_number_of_a_dtype_is_white() -> None:
    for dtype in (np.uint16, np.uint32, np.int32, np.uint64):
        assert gray(open_picture(np.full((8, 8), np.iinfo(dtype).max, dtype))).min() == 255
    assert open_picture(np.array([[1e300, -1e300, 0.5]])).size == (3, 1)
    assert gray(open_picture(np.array([[-1e-45, 0.0]], np.float32))).max() == 0  # their difference is no contrast


def test_the_first_frame_of_an_animation_is_used() -> None:
    content = bytes_of(corner(), "GIF", save_all=True, append_images=[Image.new("RGB", (40, 20), "black")])
    assert np.array_equal(gray(open_picture(content)), gray(corner()))


def test_a_large_photo_is_reduced_and_its_size_recorded() -> None:
    loaded = open_picture(bytes_of(Image.new("L", (6000, 5000), 200), "JPEG"))
    assert max(loaded.size) <= MAX_SIDE
    assert loaded.info[ORIGINAL_SIZE] == (6000, 5000)


def test_the_size_is_that_of_the_pixels_whatever_an_image_says() -> None:
    title = PngImagePlugin.PngInfo()
    title.add_text("size", "A4")
    titled = Image.open(io.BytesIO(bytes_of(corner(), pnginfo=title)))
    assert open_picture(titled).info[ORIGINAL_SIZE] == (40, 20)
    cropped = open_picture(bytes_of(corner())).crop((0, 0, 10, 20))  # Pillow keeps the size that was recorded
    assert open_picture(cropped).info[ORIGINAL_SIZE] == (10, 20)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")
def test_a_large_16_bit_picture_takes_little_memory(tmp_path: Path) -> None:
    levels = np.full((8000, 8000), 60000, np.uint16)
    levels[2000:4000] = 5000
    Image.fromarray(levels).save(tmp_path / "deep.png", compress_level=1)
    script = r"""
import pathlib, re, sys
from mnist_lit.imaging.open_picture import open_picture
picture = open_picture(sys.argv[1])
print(*picture.size, picture.getpixel((9, 1500)), picture.getpixel((9, 3000)))
print(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])
"""
    command = [sys.executable, "-c", script, str(tmp_path / "deep.png")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert output[0] == "4000 4000 19 233"
    assert int(output[1]) < 700_000  # KiB


def test_formats_that_are_expensive_to_decode_may_have_fewer_pixels() -> None:
    with pytest.raises(InputError, match="25 megapixels in WEBP"):
        open_picture(bytes_of(Image.new("L", (5001, 5000)), "WEBP"))


def heic_of(picture: Image.Image, **options: Any) -> bytes:
    """The picture as a HEIC file; Pillow itself does not learn the format by this."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="the heic extra is not installed")
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file, quality=-1, chroma=444, **options)
    return file.getvalue()


@pytest.mark.parametrize("orientation", [1, 6])
def test_photos_of_telephones_are_read_upright(orientation: int) -> None:
    stored = corner().transpose(STORED_AS[orientation]) if orientation in STORED_AS else corner()
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = open_picture(heic_of(stored, exif=exif.tobytes()))
    assert np.allclose(gray(loaded), gray(corner()), atol=3)
    assert loaded.info[ORIGINAL_SIZE] == (40, 20)


def test_a_transparent_heic_picture_is_put_on_paper() -> None:
    assert gray(open_picture(heic_of(corner("black", "RGBA", (0, 0, 0, 0)))))[10, 30] == 255


def test_a_heic_picture_without_the_plugin_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r"HEIC picture; pip install 'mnist-lit\[heic\]'"):
        open_picture(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(40))


def test_a_damaged_heic_picture_is_rejected_in_one_line() -> None:
    content = heic_of(corner())
    for damaged in (content[:60], content[: len(content) // 2], content[:-9]):
        with pytest.raises(InputError, match="expected a picture"):
            open_picture(damaged)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_avif_is_read() -> None:
    assert np.allclose(gray(open_picture(bytes_of(corner(), "AVIF", quality=95))), gray(corner()), atol=9)


def test_pictures_are_known_by_their_names() -> None:
    pictures = ["a.heic", "b.HEIF", "c.hif", "d.jpeg", *(["e.avif"] if features.check("avif") else [])]
    assert picture_names([*pictures, ".f.png", "g.txt", "h.png.seen.png", "i.eps"]) == pictures


@pytest.mark.parametrize("size", [(1, 1_000_000), (50_000, 499)])
def test_a_very_narrow_picture_is_refused_before_it_is_decoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes_of(Image.new("1", size))
    with monkeypatch.context() as patch:
        patch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("the picture was decoded"))
        with pytest.raises(InputError, match=f"at most 100:1, got {size[0]}×{size[1]}; crop it"):
            open_picture(content)
    assert open_picture(Image.new("L", (MAX_SIDE, 2))).size == (MAX_SIDE, 2)


def test_threads_do_not_change_the_warning_filters() -> None:
    class Slow(io.BytesIO):
        def __init__(self, at: threading.Event, until: threading.Event) -> None:
            super().__init__(bytes_of(corner()))
            self.at, self.until = at, until

        def read(self, size: int | None = -1) -> bytes:
            self.at.set()
            self.until.wait(60)
            return super().read(size)

    before = list(warnings.filters)
    one_in, two_in, one_out = (threading.Event() for _ in range(3))
    one = threading.Thread(target=open_picture, args=(Slow(one_in, two_in),))
    two = threading.Thread(target=open_picture, args=(Slow(two_in, one_out),))
    one.start()
    one_in.wait(60)
    two.start()
    one.join()
    one_out.set()
    two.join()
    assert list(warnings.filters) == before


def test_a_pillow_warning_is_not_an_error_even_if_warnings_are(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 40
    damaged = bytes_of(corner(), "JPEG", exif=exif).replace(b"\0\0\0)", b"\0\0\xff)")  # the length of a text
    (tmp_path / "damaged.jpg").write_bytes(damaged)
    script = (
        "import sys; from mnist_lit.imaging.open_picture import open_picture; print(*open_picture(sys.argv[1]).size)"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path / "damaged.jpg")]
    printed = subprocess.run(command, capture_output=True, text=True).stdout
    assert printed in ("20 40\n", "40 20\n")  # Pillow 12 loses the orientation together with the damaged text


def test_other_warnings_of_pillow_still_reach_a_program(tmp_path: Path) -> None:
    corner().save(tmp_path / "large.png")
    script = (
        "import sys, mnist_lit.imaging.open_picture; from PIL import Image; "
        "Image.MAX_IMAGE_PIXELS = 500; Image.open(sys.argv[1])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "large.png")]
    assert "DecompressionBombWarning" in subprocess.run(command, capture_output=True, text=True).stderr


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "empty"),
        (b"no picture", "something else"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "something else"),
        (bytes_of(corner())[:60], "damaged"),
        ("missing.png", "found no file missing.png"),
        ("", "expected a picture, got an empty name"),
        ("https://example.com/a.png", "; download it first"),
        (".", "got a folder"),
        ("*.png", "; wildcards are not expanded here"),
        (io.StringIO("text"), "'rb'"),
        (3, "got int"),
        (np.zeros((0, 4), np.uint8), "array"),
        (np.zeros((2, 4, 5), np.uint8), "array"),
        (np.array([["a"]]), "numbers"),
        (np.broadcast_to(np.uint8(0), (10**5, 10**5)), "megapixels"),
        (bytes_of(Image.new("1", (9000, 9000))), "megapixels"),
        (bytes_of(Image.new("1", (10000, 10000))), "megapixels"),  # Pillow warns, which is an error in tests
        (bytes_of(Image.new("1", (14000, 14000))), "megapixels"),
    ],
)
def test_anything_else_is_rejected_in_one_line(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_picture(source)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_too_large_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_lit.imaging.open_picture.MAX_BYTES", 50)
    with pytest.raises(InputError, match="larger"):
        open_picture(bytes_of(corner()))


def test_odd_images_are_read_or_rejected(shared: Path) -> None:
    paths = [path for path in (shared / "odd-images").glob("*/*") if path.is_file()]
    assert len(paths) == 78
    refused = set()
    for path in paths:
        try:
            assert open_picture(path).mode in ("L", "RGB")
        except InputError:
            refused.add(path.name)
    assert refused == {
        "decompression_bomb.gif",
        "decompression_bomb.ico",
        "png_decompression_dos.png",
        "readme_text_renamed.png",
        "seek_too_large.tif",
        "timeout-6646305047838720",
        "truncated_end_chunk.png",
        "xd9n2c08.png",
        "xdtn0g01.png",
        "xs1n0g01.png",
        "xs7n0g01.png",
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="a pipe or a device"):
        open_picture(tmp_path / "pipe.png")


def test_an_unbuffered_pipe_is_read_to_its_end() -> None:
    content = bytes_of(Image.effect_noise((50, 50), 50))
    start, end = os.pipe()

    def write() -> None:
        with os.fdopen(end, "wb", buffering=0) as pipe:
            pipe.write(content[:1000])
            time.sleep(0.1)
            pipe.write(content[1000:])

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(start, "rb", buffering=0) as pipe:
        assert open_picture(pipe).size == (50, 50)
        assert not pipe.closed
    thread.join()
