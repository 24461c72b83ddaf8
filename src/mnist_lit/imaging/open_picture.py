"""Open any file, bytes, image or array as a picture: 8 bit, upright, opaque and no larger than needed. The input is
untrusted, so bytes, pixels and formats are limited; formats that run programs are refused. Pillow and NumPy only."""

import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from mnist_lit.errors import InputError
from mnist_lit.system.regular_file import read_regular_file

ORIGINAL_SIZE = "mnist_lit.size"  # key in a picture's `info`; files may have a text called "size"
SHOW_SUFFIX = ".seen.png"  # end of the names of pictures that `predict --show` saves
MAX_BYTES, MAX_PIXELS = 64 << 20, 64_000_000  # of one file, at most
SLOW_FORMATS = ("AVIF", "HEIF", "JPEG2000", "WEBP")  # their decoders need much memory or time
SLOW_MAX_PIXELS = 25_000_000  # just above the 5712×4284 of phones, which store HEIF
MAX_SIDE = 4096  # longer side in pixels above which a picture is reduced
MAX_RATIO = 100  # of such a picture's sides; a narrower one has nothing to read, and some decoders take seconds
MAX_NUMBER = 1e30  # magnitude to which numbers in arrays are clipped, so that no sum overflows
MIN_OPAQUE = 250  # least alpha of opaque pixels
MIN_OPAQUE_CANVAS = 0.95  # least fraction of them in a canvas: ink fills less of its box
MIN_TONES = 16  # standard deviation in gray levels above which a canvas has ink on it
MIN_SPAN = 1e-30  # numbers that differ by less are one tone: 255 divided by far less overflows float32
FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP")
HEIC_SUFFIXES = (".heic", ".heif", ".hif")  # Pillow knows these only with the plugin, which the extra `heic` installs
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}  # ISO/IEC 23008-12, annex B: HEIF coded as HEVC

# Pillow warns about damaged metadata, with plain UserWarnings; what matters raises. Set once, because all threads share
# the filters. Its other warnings are about a program's own calls.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def open_picture(source: str | Path | bytes | BinaryIO | Image.Image | NDArray[Any]) -> Image.Image:
    """A picture of mode "L" or "RGB", upright; the first frame of an animation. Raises InputError for anything else.
    Tensors are read like arrays. Transparent areas become white under dark ink and black under light ink. A picture
    with a side above 4096 pixels, or a JPEG with both sides of at least 4096, is reduced by a whole number;
    `info[ORIGINAL_SIZE]` is the upright width and height before.

    >>> open_picture(np.full((8, 8), 200, np.uint8)).getpixel((0, 0))
    200
    """
    try:
        if isinstance(source, Image.Image):
            _check_size(*source.size, source.format)
            source.load()  # which turns a TIFF upright
            return _normalize(source, source.size)
        if hasattr(source, "__array__") and not isinstance(source, str | bytes):  # as NumPy's own are, too
            picture = _from_array(_as_array(source))
            return _normalize(picture, picture.size)
        return _normalize(*_decode(_read(source)))
    except InputError:
        raise
    except Exception as error:  # a damaged or hostile file can raise nearly anything
        raise InputError(f"expected a picture, got a damaged or incomplete one ({_one_line(error)})") from error


def reduce_picture(picture: Image.Image, max_side: int) -> Image.Image:
    """Reduce a picture by the least whole number that brings its longer side to at most `max_side` pixels."""
    return picture.reduce(-(-max(picture.size) // max_side)) if max(picture.size) > max_side else picture


def picture_names(names: Iterable[str]) -> list[str]:
    """The file names with a picture's suffix, except hidden files and what `predict --show` saved."""
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
    suffixes.update(HEIC_SUFFIXES)
    pictures = (name for name in names if Path(name).suffix.lower() in suffixes and name[0] != ".")
    return [name for name in pictures if not name.endswith(SHOW_SUFFIX)]


def _read(source: str | Path | bytes | BinaryIO) -> bytes:
    if isinstance(source, str | Path):
        if not str(source):
            raise InputError("expected a picture, got an empty name")
        try:
            content = read_regular_file(Path(source), MAX_BYTES + 1)
        except FileNotFoundError as error:
            wildcard = "; wildcards are not expanded here" if set("*?[") & set(str(source)) else ""
            hint = "; download it first" if str(source).startswith(("http:", "https:")) else wildcard
            raise InputError(f"expected a picture, found no file {' '.join(str(source).splitlines())}{hint}") from error
        except IsADirectoryError as error:
            raise InputError("expected a picture, got a folder; read its files one by one") from error
        except (OSError, ValueError) as error:
            raise InputError(f"expected a picture, got an unreadable file ({_one_line(error)})") from error
    elif isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
    elif isinstance(source, io.TextIOBase):
        raise InputError("expected a binary file, got a text file; open it with 'rb'")
    elif isinstance(source, io.RawIOBase):  # of a pipe, one read returns only a part
        buffered = io.BufferedReader(source)
        content = buffered.read(MAX_BYTES + 1)
        buffered.detach()  # or it would close the caller's file
    elif hasattr(source, "read"):
        content = source.read(MAX_BYTES + 1)
    else:
        hint = "; read one picture at a time" if isinstance(source, Iterable) else ""
        given = f"{type(source).__name__}{hint}"
        raise InputError(f"expected a path, bytes, an open file, an image or an array, got {given}")
    if not isinstance(content, bytes):
        raise InputError(f"expected a binary file, got one that returns {type(content).__name__}; open it with 'rb'")
    if not content:
        raise InputError("expected a picture, got an empty file")
    if len(content) > MAX_BYTES:
        raise InputError(f"expected at most {MAX_BYTES >> 20} MiB, got a larger file; save it smaller")
    return content


def _decode(content: bytes) -> tuple[Image.Image, tuple[int, int]]:
    """A file's picture, and its size before it was reduced."""
    Image.init()
    if not HEIC_BRANDS.isdisjoint(_brands(content)):
        _register_heic_plugin()
    formats = [name for name in FORMATS if name in Image.OPEN]  # not every build of Pillow has them all
    try:
        picture = Image.open(io.BytesIO(content), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # warnings may be errors
        raise InputError(f"expected at most {MAX_PIXELS // 10**6} megapixels, got far more; make it smaller") from error
    except UnidentifiedImageError as error:
        raise InputError(f"expected a picture ({', '.join(FORMATS)}), got something else") from error
    size = picture.size
    _check_size(*size, picture.format)
    picture.draft(None, (MAX_SIDE // 2, MAX_SIDE // 2))  # decode a large JPEG at a fraction of its size
    picture.load()
    return picture, size


def _brands(content: bytes) -> set[bytes]:
    """The brands of an ISO media file (ISO/IEC 14496-12, section 4.3), such as HEIC and AVIF; empty for other files."""
    end = min(int.from_bytes(content[:4]), 256)
    return {content[start : start + 4] for start in range(8, end, 4)} if content[4:8] == b"ftyp" else set()


def _register_heic_plugin() -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise InputError("this is a HEIC picture; pip install 'mnist-lit[heic]', or save it as JPEG") from error
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def _check_size(width: int, height: int, kind: str | None = None) -> None:
    limit, suffix = (SLOW_MAX_PIXELS, f" in {kind}") if kind in SLOW_FORMATS else (MAX_PIXELS, "")
    if width * height > limit:
        raise InputError(f"expected at most {limit // 10**6} megapixels{suffix}, got {width}×{height}; make it smaller")
    if not width * height:
        raise InputError(f"expected a picture, got {width}×{height} pixels")
    if max(width, height) > max(MAX_SIDE, MAX_RATIO * min(width, height)):
        raise InputError(f"expected sides of at most {MAX_RATIO}:1, got {width}×{height}; crop it")


def _as_array(source: Any) -> NDArray[Any]:
    """What NumPy makes of an array or a tensor."""
    try:
        return np.asarray(source)
    except Exception as error:  # of a tensor that is on a GPU or has gradients, for example
        given = f"{type(source).__name__} that NumPy cannot read ({_one_line(error)})"
        raise InputError(f"expected an array, got a {given}; pass tensor.detach().cpu()") from error


def _from_array(array: NDArray[Any]) -> Image.Image:
    channels = (1, 3, 4)
    if array.ndim == 3 and array.shape[0] == 1 and array.shape[2] not in channels:
        array = array[0]  # a gray picture with its channel first, as torchvision has it
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in channels) or not array.size:
        hint = "; read one picture at a time, with its channels last" if array.ndim > 2 else ""
        raise InputError(f"expected an array (H, W), (H, W, 3) or (H, W, 4), got {array.shape}{hint}")
    _check_size(array.shape[1], array.shape[0])
    array = array * np.uint8(255) if array.dtype == bool else array
    if array.dtype.kind not in "uif":
        raise InputError(f"expected an array of numbers, got {array.dtype}")
    return Image.fromarray(_to_uint8(array[..., 0] if array.shape[2:] == (1,) else array))


def _normalize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    try:
        orientation = int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF can raise nearly anything, but the pixels may be fine
        orientation = 1
    if picture.mode.startswith(("I", "F")):
        picture = picture.convert("I") if picture.mode.startswith("I") else picture  # "I;16" cannot be reduced
        picture = Image.fromarray(_to_uint8(np.asarray(reduce_picture(picture, MAX_SIDE))))
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
    elif picture.mode not in ("L", "RGB"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    picture = reduce_picture(picture, MAX_SIDE)
    picture = _on_paper(picture) if picture.mode == "RGBA" else picture.copy()  # never the caller's own object
    picture.info = {ORIGINAL_SIZE: size[::-1] if 5 <= orientation <= 8 else size}  # 5 to 8 swap rows and columns
    picture.getexif()[ExifTags.Base.Orientation] = orientation  # its only tag: the others may be damaged
    ImageOps.exif_transpose(picture, in_place=True)
    return picture


def _on_paper(picture: Image.Image) -> Image.Image:
    """Blend with white or black paper: the picture's own tone if it is mostly opaque, or a canvas with ink on it inside
    a transparent margin; else the opposite one."""
    alpha = np.asarray(picture.getchannel("A"), np.float32)
    tones = np.asarray(picture.convert("RGB").convert("L"), np.float32)
    light = float((tones * alpha).sum() / max(float(alpha.sum()), 1)) >= 128
    left, top, right, bottom = picture.getchannel("A").getbbox() or (0, 0, 1, 1)
    solid = alpha[top:bottom, left:right] >= MIN_OPAQUE
    is_canvas = solid.mean() > MIN_OPAQUE_CANVAS and tones[top:bottom, left:right][solid].std() > MIN_TONES
    paper = Image.new("RGBA", picture.size, "white" if light == (alpha.mean() > 128 or is_canvas) else "black")
    paper.alpha_composite(picture)
    return paper.convert("RGB")


def _to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale numbers to 0 … 255; those that are not finite count as 0. The scale starts at 0, or at a negative minimum,
    and ends at 255, or at the next 2ⁿ - 1 if numbers are higher. Floats between 0 and 1 end at 1; other floats with a
    negative number, or below 128 throughout, at their maximum. Integers that are all 0 or 1 are a mask."""
    if values.dtype.kind != "f" and values.min() >= 0 and values.max() <= 1:
        return np.asarray(values, np.uint8) * np.uint8(255)
    if values.dtype == np.uint8:
        return values
    with np.errstate(over="ignore"):
        numbers = np.nan_to_num(values.astype(np.float32), copy=False, posinf=0, neginf=0)
    numbers.clip(-MAX_NUMBER, MAX_NUMBER, out=numbers)
    integers = values.dtype.kind != "f"
    exact = values if integers else numbers
    low, high = min(exact.min().item(), 0), exact.max().item()
    if integers or (low == 0 and high >= 128):
        span = max(255, 2 ** int(high - low).bit_length() - 1)
    else:
        span = high - low if low < 0 or high > 1 else 1
    numbers -= low
    numbers *= 255 / (span if span > MIN_SPAN else 1)
    return np.rint(numbers, out=numbers).clip(0, 255).astype(np.uint8)


def _one_line(error: BaseException) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())[:100]
