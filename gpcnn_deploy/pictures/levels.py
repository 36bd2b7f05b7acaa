"""Levels ↔ pixels, and pictures on disk. A level is an int in [0, K); a pixel is an 8-bit value."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.system.files import write_atomic


def level_dtype(levels: int) -> type[np.uint8] | type[np.uint16]:
    """What levels 0..K-1 are kept as: uint8, or uint16 where there are more than 256."""
    return np.uint8 if levels <= 256 else np.uint16


def compact(levels_NCHW: npt.NDArray[Any], levels: int) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Levels 0..K-1 as `level_dtype` keeps them; same shape."""
    return levels_NCHW.astype(np.uint8) if levels <= 256 else levels_NCHW.astype(np.uint16)


def pixels_from_levels(levels_NCHW: npt.NDArray[Any], levels: int) -> npt.NDArray[np.uint8]:
    """Spread levels 0..K-1 evenly over pixel values 0..255; same shape, uint8."""
    return np.rint(np.asarray(levels_NCHW, np.float64) * (255 / (levels - 1))).astype(np.uint8)


def levels_from_pixels(pixels: npt.NDArray[np.uint8], levels: int) -> npt.NDArray[np.int32]:
    """Nearest level of each 8-bit pixel value: the inverse of `pixels_from_levels`; same shape, int32."""
    return np.rint(np.asarray(pixels, np.float64) * ((levels - 1) / 255)).astype(np.int32)


def grid(pixels_NCHW: npt.NDArray[np.uint8], columns: int | None = None, gap: int = 2) -> npt.NDArray[np.uint8]:
    """Lay images out in reading order on a grey ground.

    Args:
        pixels_NCHW: uint8 [N, C, H, W], C 1 or 3, N at least 1.
        columns: images a row; None takes a grid as square as possible.
        gap: ground pixels around and between images; a single image gets none.

    Returns:
        uint8 [rows, columns] for grey, [rows, columns, 3] for colour.
    """
    n, c, h, w = pixels_NCHW.shape
    columns = min(n, columns or math.ceil(math.sqrt(n)))
    rows = math.ceil(n / columns)
    if n == 1:
        gap = 0
    sheet = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, c), 128, np.uint8)
    for k, image_CHW in enumerate(pixels_NCHW):
        top, left = gap + (k // columns) * (h + gap), gap + (k % columns) * (w + gap)
        sheet[top : top + h, left : left + w] = image_CHW.transpose(1, 2, 0)
    return sheet[..., 0] if c == 1 else sheet


def png_bytes(picture: npt.NDArray[np.uint8], scale: int = 1) -> bytes:
    """PNG of a grey [rows, columns] or colour [rows, columns, 3] picture, each pixel `scale` × `scale` large."""
    from PIL import Image

    if scale > 1:
        picture = picture.repeat(scale, 0).repeat(scale, 1)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def save_png(path: Path, picture: npt.NDArray[np.uint8], scale: int = 1) -> None:
    """Write a picture as PNG, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomic(path, png_bytes(picture, scale))
