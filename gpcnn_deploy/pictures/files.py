"""The one reader of picture files, for training, scoring and completing: what it refuses, it refuses in the same words.

What can be converted without loss is: palettes, pictures without colour that are stored as RGB, opaque alpha, the
orientation that a camera noted. What loses something (size, colour, 16 bits, transparency) is done on request alone.
What does not fit is refused by its header where that tells, before anything is decoded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError, UsageError
from gpcnn_deploy.pictures.changes import note_change
from gpcnn_deploy.preparation import Resampling
from gpcnn_deploy.spec import MAX_PIXELS

if TYPE_CHECKING:
    from PIL import Image

    Picture = Image.Image
    Pixels = npt.NDArray[np.uint8]

MAX_PICTURE_PIXELS = 50_000_000
"""Of a picture that is to be resized: what a good camera takes, and 150 MB in memory."""

SUFFIXES = frozenset(
    f".{name}"
    for name in [
        "png",
        "apng",
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "bmp",
        "dib",
        "gif",
        "webp",
        "tif",
        "tiff",
        "pgm",
        "ppm",
        "pnm",
        "pbm",
    ]
)
"""Names of files that are taken for pictures where a folder holds other things, too."""

_CLUTTER = frozenset(("__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "thumbs.db", "desktop.ini"))

# Formats whose readers are sound and run no other program (as Pillow's EPS does).
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_KINDS = {
    "1": "1-bit grey",
    "L": "8-bit grey",
    "P": "palette",
    "RGB": "8-bit RGB",
    "LA": "transparent grey",
    "RGBA": "transparent RGB",
    "PA": "transparent palette",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
}
_LOSSLESS = ("1", "L", "P", "RGB", "LA", "RGBA", "PA")
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # the Exif tag; the values that swap width and height


@dataclasses.dataclass(frozen=True)
class Target:
    """What pictures are to become, and what may be done to them for it.

    Attributes:
        size: (H, W); None leaves them as large as they are.
        channels: 1 (grey) or 3 (RGB); None takes grey where a picture has no colour.
        resampling: how those of another size are resized; None refuses them.
        converts: colour becomes grey, 16 bits become 8, CMYK becomes RGB; else such pictures are refused.
        background: `#rrggbb` that transparent pictures are laid on; None refuses them.
        model_takes: a model says what is needed, and not the flags of a training run.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    resampling: Resampling | None = None
    converts: bool = False
    background: str | None = None
    model_takes: bool = False

    def needed(self) -> str:
        """The pictures that are taken, in words."""
        kind = {1: "8-bit grey", 3: "8-bit RGB", None: "8-bit grey or RGB"}[self.channels]
        return kind if self.size is None else f"{self.size[1]}×{self.size[0]} {kind}"

    def misfit(self, source: str, found: str, flags: str, plural: bool = False) -> DataError:
        """The error for a picture, or for pictures, that do not fit; `flags` are those of a training run that help."""
        verb, them = ("are", "them") if plural else ("is", "it")
        if self.model_takes:
            needs, flags = f"the model takes {self.needed()} (width × height)", "--resize"
        else:
            needs = f"expected {self.needed()}"
        return DataError(f"{source} {verb} {found}; {needs}: convert {them}, or add {flags}")


def read_picture(path: str | Path, target: Target) -> Pixels:
    """A picture as 8-bit pixels.

    Args:
        path: of a PNG, JPEG, BMP, GIF, WebP, TIFF or PNM file.
        target: what it is to become.

    Returns:
        uint8 [C, H, W].

    Raises:
        DataError: missing, not a picture, truncated, animated, enormous, or not what the target takes.
    """
    path = Path(path)
    _check_file(path)
    return _decoded(lambda: path.open("rb"), str(path), target)


def read_numbers(path: str | Path, channels: int) -> npt.NDArray[np.int32]:
    """The numbers of a picture as they are stored, those of a palette among them: int32 [C, H, W].

    Args:
        path: as of `read_picture`.
        channels: 1 (grey of 1, 8 or 16 bits, or a palette) or 3 (RGB).

    Raises:
        DataError: as `read_picture`, or another kind of picture.
    """
    path, target = Path(path), Target(model_takes=True)
    _check_file(path)
    with _opened(lambda: path.open("rb"), str(path), target) as picture:
        if picture.size[0] * picture.size[1] > MAX_PIXELS:
            raise DataError(f"{path}: is enormous, {picture.size[0]}×{picture.size[1]} pixels: {_at_most(target)}")
        if getattr(picture, "is_animated", False):
            raise DataError(
                f"{path}: is animated or has several pages: expected a single picture; save one frame of it"
            )
        modes = ("1", "L", "P", *_DEEP) if channels == 1 else ("RGB",)
        if picture.mode not in modes:
            needed = "grey, or of a palette" if channels == 1 else "8-bit RGB"
            kind = _KINDS.get(picture.mode, f"mode {picture.mode}")
            raise DataError(f"{path}: is {kind}: expected a picture that is {needed}, whose numbers are categories")
        picture.load()
        numbers = np.asarray(picture).astype(np.int32)
        return np.ascontiguousarray(numbers.reshape(*numbers.shape[:2], channels).transpose(2, 0, 1))


def decode_picture(content: bytes, name: str, target: Target) -> Pixels:
    """As `read_picture`, of the bytes of a picture file; messages call it `name`.

    Raises:
        DataError: as `read_picture`.
    """
    if not content:
        raise DataError(f"{name}: is empty (0 bytes): expected a picture")
    return _decoded(lambda: io.BytesIO(content), name, target)


def _decoded(open_stream: Callable[[], IO[bytes]], path: str, target: Target) -> Pixels:
    with _opened(open_stream, path, target) as picture:
        kind = _check_header(path, picture, target)
        picture.load()
        eight, changed = _eight_bits(path, _upright(picture), target)
        return fit(eight, target, path, kind, changed or kind.startswith("16-bit"))


@contextlib.contextmanager
def _opened(open_stream: Callable[[], IO[bytes]], path: str, target: Target) -> Iterator[Picture]:
    """A picture whose header has been read; whatever its reader raises, then and later, is told in one line.

    It takes a stream: of a name, Pillow 13 maps an uncompressed TIFF into memory, and garbles a turned one.
    """
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about oddities that it then reads all the same
        try:
            with open_stream() as stream, Image.open(stream, formats=_FORMATS) as picture:
                yield picture
        except DataError:
            raise
        except Image.DecompressionBombError as error:
            raise DataError(f"{path}: is enormous: {_at_most(target)}") from error
        except UnidentifiedImageError as error:
            raise DataError(f"{path}: is not a picture: expected PNG, JPEG, BMP, GIF, WebP, TIFF or PNM") from error
        except Exception as error:  # a reader of a damaged file raises nearly anything
            why = getattr(error, "strerror", None) or error or type(error).__name__
            raise DataError(f"{path}: is damaged or truncated ({why}): replace or remove it") from error


def fit(picture: Picture, target: Target, source: str, kind: str = "8-bit RGB", changed: bool = False) -> Pixels:
    """A decoded 8-bit picture, `L`, `1` or `RGB`, as the target has it: uint8 [C, H, W].

    If that changes what it shows, or decoding has `changed` it already, it counts (`counting_changes`).

    Raises:
        DataError: it does not fit, and the target does not allow what would make it; `source` is named.
    """
    from PIL import Image

    width, height = picture.size
    size = target.size or (height, width)
    if (height, width) != size and target.resampling is None:
        raise target.misfit(f"{source}:", f"{width}×{height} {kind}", "--image-size HxW")
    grey = picture.mode in ("1", "L") or (target.channels != 3 and _is_grey(picture))
    if not grey and target.channels == 1 and not target.converts:
        raise target.misfit(f"{source}:", f"{width}×{height} {kind}", "--grey")
    if changed or (height, width) != size or (not grey and target.channels == 1):
        note_change()
    picture = picture.convert("L" if (target.channels or (1 if grey else 3)) == 1 else "RGB")
    if (height, width) != size:
        shrinks = width >= size[1] and height >= size[0]
        # Means of what a pixel covers bring back the pixels of an enlarged picture, whole factors given.
        how = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
        if target.resampling == "lanczos":
            how = Image.Resampling.LANCZOS
        picture = picture.resize((size[1], size[0]), how)
    return np.ascontiguousarray(np.asarray(picture).reshape(*size, -1).transpose(2, 0, 1))


def is_clutter(name: str) -> bool:
    """Whether a file or folder is nobody's picture: hidden, or what macOS, Windows or a NAS leaves behind."""
    return name.startswith(".") or name.lower() in _CLUTTER


def hex_colour(name: str) -> str:
    """`white`, `#fff`, `rgb(255, 255, 255)` → `#ffffff`.

    Raises:
        UsageError: not a colour that covers.
    """
    from PIL import ImageColor

    colour: tuple[int, ...] = ()
    with contextlib.suppress(ValueError):
        colour = ImageColor.getrgb(name)
    if len(colour) != 3:
        raise UsageError(f"--background {name}: expected an opaque colour, such as white, black or '#ff8800'")
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _is_grey(picture: Picture) -> bool:
    from PIL import ImageChops

    red, green, blue = picture.split()
    return not ImageChops.difference(red, green).getbbox() and not ImageChops.difference(red, blue).getbbox()


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder: expected a picture")
        if not path.exists():
            raise DataError(f"{path}: no such file")
        if not path.is_file():  # opening a pipe would wait for ever
            raise DataError(f"{path}: is a device or a pipe: expected a picture")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: is empty (0 bytes): expected a picture")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _check_header(path: str, picture: Picture, target: Target) -> str:
    """Refuse what the header tells, while nothing is decoded yet; returns what sort of picture it is, in words."""
    width, height = picture.size
    most = MAX_PIXELS if target.resampling is None and not target.model_takes else MAX_PICTURE_PIXELS
    if width * height > most:
        raise DataError(f"{path}: is enormous, {width}×{height} pixels: {_at_most(target)}")
    # Camera JPEGs may carry a preview as a second frame; the first is the picture.
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        raise DataError(f"{path}: is animated or has several pages: expected a single picture; save one frame of it")
    # Pillow cuts 16-bit RGB to 8 bits without a word; only the way it will decode tells.
    deep = any(";16" in _raw_mode(tile[3]) for tile in getattr(picture, "tile", ()))
    kind = _KINDS.get(picture.mode, f"mode {picture.mode}")
    if deep or picture.mode in _DEEP:
        kind = "16-bit RGB" if picture.mode == "RGB" else "16-bit grey"
    elif "transparency" in picture.info:
        kind = f"transparent {kind}"
    lossy = deep or picture.mode not in _LOSSLESS
    fits = target.size is None or target.resampling is not None
    fits = fits or target.size in ((height, width), (width, height))  # it may have to be turned yet
    if (lossy and not target.converts) or not fits:
        kept = {1: "--grey", 3: "--rgb", None: "--grey or --rgb"}[target.channels]
        flags = kept if lossy else "--image-size HxW"
        raise target.misfit(f"{path}:", f"{width}×{height} {kind}", flags)
    return kind


def _at_most(target: Target) -> str:
    if not target.model_takes:
        if target.resampling is None:
            return f"expected at most {MAX_PIXELS:,} pixels, or with --image-size {MAX_PICTURE_PIXELS:,}"
        return f"expected at most {MAX_PICTURE_PIXELS:,} pixels"
    return f"expected {target.needed()}, or with --resize at most {MAX_PICTURE_PIXELS // 1_000_000} million pixels"


def _raw_mode(arguments: Any) -> str:
    """How a file holds its pixels, as Pillow's decoders have it: `L`, `RGB;16B`."""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _upright(picture: Picture) -> Picture:
    """The picture turned as its Exif says that the camera was held; damaged Exif says nothing."""
    from PIL import ImageOps

    try:
        turned = picture.getexif().get(_ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(picture) if turned else picture
    except Exception:  # Pillow's Exif reader raises nearly anything
        return picture


def _eight_bits(path: str, picture: Picture, target: Target) -> tuple[Picture, bool]:
    """`L`, `1` or `RGB`: greys of 16 bits rounded to 8, alpha laid on the background or, where opaque, left out.

    And whether that shows something else.
    """
    from PIL import Image

    if picture.mode in _DEEP:
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{path}: holds values outside 16 bits: save it with 8 bits")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8)), True
    if picture.mode not in _KINDS:
        raise DataError(f"{path}: is of mode {picture.mode}: save it as 8-bit grey or RGB")
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        whole = picture.convert("RGBA")
        if whole.getchannel("A").getextrema() != (255, 255):
            if target.background is None:
                more = "" if target.model_takes else ", or add --background white"
                raise DataError(f"{path}: is partly transparent: lay it on a background first{more}")
            ground = Image.new("RGBA", whole.size, target.background)
            return Image.alpha_composite(ground, whole).convert("RGB"), True
        return whole.convert("RGB"), False
    return picture if picture.mode in ("1", "L") else picture.convert("RGB"), picture.mode not in _LOSSLESS
