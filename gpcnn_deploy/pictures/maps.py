"""Spatial maps that pictures are drawn under: arrays of them, and pictures made small.

Shape legend: N maps, M planes of a map, h × w its size, C channels of a picture, H × W its size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.arrays import Part
from gpcnn_deploy.spec import MAX_CATEGORIES, MAX_PLANES, ModelSpec
from gpcnn_deploy.text import counted, spanned

MAPS: dict[Part, tuple[str, ...]] = {
    "train": ("maps", "train_maps"),
    "validation": ("val_maps",),
    "test": ("test_maps",),
}
"""Names of the maps of a part's images in an .npz; upper and lower case are alike."""

Maps = npt.NDArray[Any]
"""int32 (categories) or float32 (values) [N, M, h, w]."""


def checked_maps(source: str, maps: npt.NDArray[Any]) -> Maps:
    """Maps of an array, [N, h, w] or [N, h, w, M], as [N, M, h, w]: int32 of categories, float32 of values.

    Args:
        source: names the array in messages.
        maps: integers or bool are categories, floats are values.

    Raises:
        DataError: another shape or type, a category below 0 or above 4,095, or values that are not finite.
    """
    shape = list(maps.shape)
    if maps.ndim in (3, 4) and 0 in shape:
        raise DataError(f"{source}: empty, of shape {shape}: expected at least one map")
    if maps.ndim == 3:
        maps = maps[..., None]
    if maps.dtype.kind not in "iubf" or maps.ndim != 4 or maps.shape[3] > MAX_PLANES:
        raise DataError(
            f"{source}: {maps.dtype} of shape {shape}: expected integers (categories) or floats (values) "
            f"of shape [N, h, w], or [N, h, w, M] of up to {MAX_PLANES} planes"
        )
    maps = maps.transpose(0, 3, 1, 2)
    if maps.dtype.kind != "f":
        low, high = int(maps.min()), int(maps.max())
        if low < 0 or high >= MAX_CATEGORIES:
            raise DataError(
                f"{source}: integers, {spanned(low, high)}: expected categories 0 to {MAX_CATEGORIES - 1}, or floats"
            )
        return np.ascontiguousarray(maps, np.int32)
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(maps, np.float32)
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2, 3)))
    if len(wrong):
        raise DataError(f"{source}: nan or infinite numbers, first in map {wrong[0]}: expected finite ones")
    return values


def fitting_maps(source: str, maps: Maps, spec: ModelSpec) -> Maps:
    """Checked maps [N, M, h, w] as a model takes them; integers may stand for values.

    Raises:
        DataError: another size, values for a model of categories, or a category that it has not.
    """
    planes, height, width = spec.map_shape
    if maps.shape[1:] != (planes, height, width):
        m, h, w = maps.shape[1:]
        raise DataError(
            f"{source}: {counted(h, 'row')} × {counted(w, 'column')} × {counted(m, 'plane')}: expected {height} × "
            f"{width} × {planes}, as the model takes"
        )
    if spec.map_kind != "categories":
        return np.ascontiguousarray(maps, np.float32)
    if maps.dtype.kind == "f":
        raise DataError(f"{source}: holds floats: expected integers, categories 0 to {spec.map_categories - 1}")
    high = int(maps.max())
    if high >= spec.map_categories or int(maps.min()) < 0:
        low = int(maps.min())
        raise DataError(f"{source}: holds {spanned(low, high)}: expected categories 0 to {spec.map_categories - 1}")
    return np.ascontiguousarray(maps, np.int32)


def made_small(pixels_NCHW: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Pictures made small: each pixel is the mean of those that it covers, uint8 [N, C, h, w], halves rounded up."""
    n, c, rows, columns = pixels_NCHW.shape
    down, across = rows // height, columns // width
    total = pixels_NCHW.reshape(n, c, height, down, width, across).sum(axis=(3, 5), dtype=np.uint32)
    count = np.uint32(down * across)
    small: npt.NDArray[np.uint8] = ((2 * total + count) // (2 * count)).astype(np.uint8)
    return small


def enlarged(small_NCHW: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Small pictures with each pixel as a block: uint8 [N, C, H, W]."""
    rows, columns = small_NCHW.shape[2:]
    return small_NCHW.repeat(height // rows, axis=2).repeat(width // columns, axis=3)


def values_of_pixels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Pixels 0..255 as the values of a small picture's map, -1 to 1, of the same shape."""
    return (2 * pixels.astype(np.int32) - 255).astype(np.float32) * np.float32(1 / 255)


def maps_of_pictures(pixels_NCHW: npt.NDArray[np.uint8], spec: ModelSpec) -> npt.NDArray[np.float32]:
    """The maps of pictures under a model that enlarges small ones: float32 [N, C, h, w]."""
    return values_of_pixels(made_small(pixels_NCHW, spec.map_height, spec.map_width))


def some_maps(spec: ModelSpec, images: int, rng: np.random.Generator) -> Maps:
    """Maps [N, M, h, w] such as a model may be given: its categories, values of pixels, or normal ones."""
    shape = (images, *spec.map_shape)
    if spec.map_kind == "categories":
        return rng.integers(0, spec.map_categories, shape, np.int32)
    if spec.map_kind == "picture":
        return values_of_pixels(rng.integers(0, 256, shape, np.uint8))
    return rng.standard_normal(shape, np.float32)
