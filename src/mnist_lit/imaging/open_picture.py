"""Any file, bytes, image or array to a picture: 8 bit, upright, opaque, and no larger than it needs to be.

Opens what others sent, so all of it is limited: bytes, pixels, formats. Formats that run a program are refused.
Pillow and NumPy only. Knows nothing about digits.
"""

import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mnist_lit.errors import InputError

__all__ = ["FORMATS", "MAX_BYTES", "MAX_PIXELS", "SHOW_SUFFIX", "open_picture", "picture_names"]

SHOW_SUFFIX = ".seen.png"  # how the names end of what `predict --show` saves beside a picture
MAX_BYTES, MAX_PIXELS = 64 << 20, 64_000_000  # what a file may have
HEAVY = 24_000_000  # pixels of a file whose decoder takes far more memory, or time, than its picture
HEAVIER = ("AVIF", "JPEG2000", "WEBP")
SIDE = 4096  # what is longer is reduced
LARGE = 1e30  # what is larger in an array is cut, so that no sum overflows
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP")
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Once, as no thread may change the filters for itself: Pillow warns of damaged metadata; what matters raises.
warnings.filterwarnings("ignore", module=r"PIL\.")

Source = str | Path | bytes | BinaryIO | Image.Image | NDArray[Any]


def open_picture(source: Source) -> Image.Image:
    """A picture of mode "L" or "RGB", upright, of an animation the first frame.

    Transparent paper becomes white under dark ink and black under light ink. What is longer than 4096 pixels is
    reduced by a whole number; `info["size"]` is the width and height before. Raises InputError on what is no picture.

    >>> open_picture(np.full((8, 8), 200, np.uint8)).getpixel((0, 0))
    200
    """
    try:
        if isinstance(source, np.ndarray):
            picture = _from_array(source)
        elif isinstance(source, Image.Image):
            picture = source
            _limit(picture)
        else:
            picture = _opened(_bytes(source))
        return _plain(picture)
    except InputError:
        raise
    except Exception as error:  # a damaged or hostile file raises nearly anything
        raise InputError(f"expected a picture, got a damaged one ({_line(error)}); save it anew") from error


def picture_names(names: Iterable[str]) -> list[str]:
    """Of a folder's files those that are named as pictures are; not hidden ones, nor what `predict --show` saved."""
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
    return [
        name
        for name in names
        if Path(name).suffix.lower() in known and name[0] != "." and not name.endswith(SHOW_SUFFIX)
    ]


def _bytes(source: str | Path | bytes | BinaryIO) -> bytes:
    if isinstance(source, str | Path):
        try:
            with Path(source).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            raise InputError(f"expected a picture, got no readable file ({_line(error)})") from error
    elif isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
    elif hasattr(source, "read"):
        content = source.read(MAX_BYTES + 1)
        if not isinstance(content, bytes):
            raise InputError(f"expected a file opened for bytes, got one that gives {type(content).__name__}; use 'rb'")
    else:
        raise InputError(f"expected a path, bytes, an opened file, an image or an array, got {type(source).__name__}")
    if not content:
        raise InputError("expected a picture, got an empty file")
    if len(content) > MAX_BYTES:
        raise InputError(f"expected at most {MAX_BYTES >> 20} MiB, got a larger file; save it smaller")
    return content


def _opened(content: bytes) -> Image.Image:
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # not every build of Pillow has them all
    try:
        picture = Image.open(io.BytesIO(content), formats=formats)
    except Image.DecompressionBombError as error:
        raise InputError(f"expected at most {MAX_PIXELS // 10**6} megapixels, got far more; make it smaller") from error
    except UnidentifiedImageError as error:
        raise InputError(f"expected a picture ({', '.join(FORMATS)}), got something else") from error
    _limit(picture)
    size = picture.size
    picture.draft(None, (SIDE // 2, SIDE // 2))  # a large JPEG comes at a part of its size
    picture.load()
    picture.info["size"] = size
    return picture


def _limit(picture: Image.Image) -> None:
    width, height = picture.size
    most, kind = (HEAVY, f" in {picture.format}") if picture.format in HEAVIER else (MAX_PIXELS, "")
    if width * height > most:
        raise InputError(f"expected at most {most // 10**6} megapixels{kind}, got {width}×{height}; make it smaller")
    if not width * height:
        raise InputError(f"expected a picture, got {width}×{height} pixels")


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or not array.size:
        raise InputError(f"expected an array (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise InputError(f"expected at most {MAX_PIXELS // 10**6} megapixels, got {array.shape}; make it smaller")
    if array.dtype == bool:
        array = array * np.uint8(255)
    if array.dtype.kind not in "uif":
        raise InputError(f"expected an array of numbers, got {array.dtype}")
    return Image.fromarray(_eight_bit(array[..., 0] if array.shape[2:] == (1,) else array))


def _plain(picture: Image.Image) -> Image.Image:
    """Eight bit, reduced, opaque, upright."""
    size = picture.info.get("size", picture.size)
    exif = _orientation(picture)
    if picture.mode.startswith(("I", "F")):
        whole = picture.convert("I") if picture.mode.startswith("I") else picture  # "I;16" can't be reduced
        picture = Image.fromarray(_eight_bit(np.asarray(_reduced(whole))))
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
    elif picture.mode not in ("L", "RGB"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    picture = _reduced(picture)
    if picture.mode == "RGBA":
        picture = _on_paper(picture)
    if exif in UPRIGHT:
        picture = picture.transpose(UPRIGHT[exif])
        size = size[::-1] if exif > 4 else size
    picture = picture.copy()  # never the caller's own
    picture.info = {"size": size}
    return picture


def _reduced(picture: Image.Image) -> Image.Image:
    return picture.reduce(-(-max(picture.size) // SIDE)) if max(picture.size) > SIDE else picture


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF raises nearly anything, and the picture may be sound
        return 1


def _on_paper(picture: Image.Image) -> Image.Image:
    """Lay what is partly transparent on paper: of its own tone where it covers most, else of the other."""
    alpha = np.asarray(picture.getchannel("A"), np.float32)
    light = float((np.asarray(picture.convert("RGB").convert("L")) * alpha).sum() / max(float(alpha.sum()), 1)) >= 128
    white = light == (alpha.mean() > 128)
    paper = Image.new("RGBA", picture.size, "white" if white else "black")
    paper.alpha_composite(picture)
    return paper.convert("RGB")


def _eight_bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbers to 0 … 255. What is not finite counts as 0.

    The scale starts at 0, or at the lowest number if that is negative. It ends at 255, or where numbers are higher at
    the next 2ⁿ - 1. Floats that all lie between 0 and 1 end at 1; others with a negative one, or with none from 128
    up, at their highest.
    """
    if values.dtype == np.uint8:
        return values
    with np.errstate(over="ignore"):
        numbers = np.nan_to_num(values.astype(np.float32), copy=False, posinf=0, neginf=0)
    numbers.clip(-LARGE, LARGE, out=numbers)
    whole = values.dtype.kind != "f"
    exact = values if whole else numbers
    low, high = min(exact.min().item(), 0), exact.max().item()
    if whole or (low == 0 and high >= 128):
        span = max(255, 2 ** int(high - low).bit_length() - 1)
    else:
        span = high - low if low < 0 or high > 1 else 1
    numbers -= low
    numbers *= 255 / (span or 1)
    return np.rint(numbers, out=numbers).clip(0, 255).astype(np.uint8)


def _line(error: BaseException) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())[:100]
