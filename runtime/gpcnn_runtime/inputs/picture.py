"""Pictures that users hand in → pixels and levels of a model. What does not fit is refused before it is decoded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures import levels_from_pixels
from gpcnn_deploy.spec import ModelSpec

if TYPE_CHECKING:
    from PIL import Image

    Picture = Image.Image

MAX_PICTURE_PIXELS = 50_000_000
"""Of a picture that is to be resized: what a good camera takes, and 150 MB in memory."""

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
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def read_levels(
    path: str | Path, spec: ModelSpec, *, resize: bool = False, invert: bool = False
) -> npt.NDArray[np.int32]:
    """A picture as the nearest levels of a model.

    Args:
        path: of a PNG, JPEG, BMP, GIF, WebP, TIFF or PNM file.
        spec: what it must fit: W×H pixels, 8-bit grey (or 1-bit) for C = 1, 8-bit RGB for C = 3.
        resize: convert a picture of another size, mode or depth; another aspect is stretched.
        invert: swap dark and light.

    Returns:
        int32 [C, H, W], each in [0, K).

    Raises:
        DataError: missing, not a picture, truncated, animated, enormous, or not of the model's size, mode or depth.
    """
    return levels_from_pixels(read_pixels(path, spec, resize=resize, invert=invert), spec.levels)


def read_pixels(
    path: str | Path, spec: ModelSpec, *, resize: bool = False, invert: bool = False
) -> npt.NDArray[np.uint8]:
    """As `read_levels`, before pixels become levels: uint8 [C, H, W].

    Raises:
        DataError: as `read_levels`.
    """
    path = Path(path)
    _check_file(path)
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about oddities that it then reads all the same
        try:
            with Image.open(path, formats=_FORMATS) as picture:
                _check_header(path, picture, spec, resize)
                picture.load()
                pixels = fit(_eight_bits(path, picture), spec)
        except DataError:
            raise
        except Image.DecompressionBombError as error:
            raise DataError(f"{path}: is enormous: {_at_most(spec)}") from error
        except UnidentifiedImageError as error:
            raise DataError(f"{path}: is not a picture: expected PNG, JPEG, BMP, GIF, WebP, TIFF or PNM") from error
        except Exception as error:  # a reader of a damaged file raises nearly anything
            why = getattr(error, "strerror", None) or error or type(error).__name__
            raise DataError(f"{path}: is damaged or truncated ({why}): replace or remove it") from error
    return 255 - pixels if invert else pixels


def needed(spec: ModelSpec) -> str:
    """The pictures that a model takes, in words."""
    return f"{spec.width}×{spec.height} 8-bit {'grey' if spec.channels == 1 else 'RGB'}"


def fit(picture: Picture, spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """A decoded 8-bit picture in the model's mode and size: uint8 [C, H, W]; unchanged where it fits already."""
    from PIL import Image

    picture = picture.convert("L" if spec.channels == 1 else "RGB")
    if picture.size != (spec.width, spec.height):
        shrinks = picture.width >= spec.width and picture.height >= spec.height
        # Means of what a pixel covers bring back the pixels of an enlarged picture, whole factors given.
        how = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
        picture = picture.resize((spec.width, spec.height), how)
    pixels_HWC = np.asarray(picture).reshape(spec.height, spec.width, spec.channels)
    return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1))


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


def _check_header(path: Path, picture: Picture, spec: ModelSpec, resize: bool) -> None:
    """Everything that the header tells, while nothing is decoded yet."""
    width, height = picture.size
    if width * height > MAX_PICTURE_PIXELS:
        raise DataError(f"{path}: is enormous, {width}×{height} pixels: {_at_most(spec)}")
    # Camera JPEGs may carry a preview as a second frame; the first is the picture.
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        raise DataError(f"{path}: is animated or has several pages: expected a single picture; save one frame of it")
    clear = "transparency" in picture.info
    # Pillow cuts 16-bit RGB to 8 bits without a word; only the way it will decode tells.
    deep = any(";16" in _raw_mode(tile[3]) for tile in getattr(picture, "tile", ()))
    kind = _KINDS.get(picture.mode, f"mode {picture.mode}")
    if deep or picture.mode in _DEEP:
        kind = "16-bit RGB" if picture.mode == "RGB" else "16-bit grey"
    elif clear:
        kind = f"transparent {kind}"
    modes = ("1", "L") if spec.channels == 1 else ("RGB",)
    fits = picture.size == (spec.width, spec.height) and picture.mode in modes and not clear and not deep
    if not fits and not resize:
        raise DataError(
            f"{path}: is {width}×{height} {kind}; the model takes {needed(spec)} (width × height): convert it, or add"
            " --resize"
        )


def _at_most(spec: ModelSpec) -> str:
    return f"expected {needed(spec)}, or with --resize at most {MAX_PICTURE_PIXELS // 1_000_000} million pixels"


def _raw_mode(arguments: Any) -> str:
    """How a file holds its pixels, as Pillow's decoders have it: `L`, `RGB;16B`."""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _eight_bits(path: Path, picture: Picture) -> Picture:
    """Greys of 16 bits rounded to 8, opaque pictures without their alpha; refuses what has no honest conversion."""
    from PIL import Image

    if picture.mode in _DEEP:
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{path}: holds values outside 16 bits: save it with 8 bits")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if picture.mode not in _KINDS:
        raise DataError(f"{path}: is of mode {picture.mode}: save it as 8-bit grey or RGB")
    clear: Any = picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info
    if clear and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise DataError(f"{path}: is partly transparent: lay it on a background first")
    if picture.mode == "LA":
        return picture.convert("L")
    return picture if picture.mode in ("1", "L") else picture.convert("RGB")
