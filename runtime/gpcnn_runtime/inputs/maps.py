"""Maps that users hand in: pictures, and arrays of .npy and .npz files. Nothing is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.arrays import images_layout, images_to_pixels
from gpcnn_deploy.pictures.files import Target, read_numbers, read_picture
from gpcnn_deploy.pictures.maps import MAPS, Maps, checked_maps, fitting_maps, values_of_pixels
from gpcnn_deploy.preparation import Preparation
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.text import counted, spanned
from gpcnn_runtime.inputs.vectors import file_and_row, read_array

NAMES: Final = ("map", *MAPS["train"], *MAPS["test"], *MAPS["validation"])
"""Arrays of an .npz that hold maps; the first that is there is taken."""
_BESIDE_PICTURES: Final = {
    "images": MAPS["train"],
    "levels": ("map",),
    "test_images": MAPS["test"],
    "x_test": MAPS["test"],
}
_ARRAYS: Final = (".npy", ".npz")


def read_maps(text: str | Path, spec: ModelSpec) -> Maps:
    """Maps of a file as a model takes them: int32 or float32 [M, P, h, w].

    Args:
        text: the path of a picture of the map's size; or of an .npy of one map, [h, w] or [h, w, P], or of several,
            [M, h, w] or [M, h, w, P], or of an .npz with such an array; behind it perhaps `:ROW`, the number of one of
            them, counted from 0. A picture's numbers are categories, or 0 to 255 stand for values 0 to 1. Where a model
            enlarges small pictures, all are pictures.
        spec: the model's.

    Raises:
        DataError: no such file or row, no map in it, or one of another size, type or range.
    """
    path, row = file_and_row(text)
    if not path.exists():
        raise DataError(f"{path}: no such file: expected a picture, or an .npy or .npz file of maps")
    if path.suffix.lower() not in _ARRAYS and row is None:
        return _of_picture(path, spec)
    name, array = read_array(path, NAMES)
    planes, height, width = spec.map_shape
    if array.shape in ((height, width), (height, width, planes)):
        array = array[None]
    maps = _of_array(name, array, spec)
    if row is not None:
        if row >= len(maps):
            raise DataError(
                f"{name}: {counted(len(maps), 'map')}, so no map {row}: expected {spanned(0, len(maps) - 1)}"
            )
        maps = maps[row : row + 1]
    return maps


def maps_beside_pictures(path: Path, spec: ModelSpec) -> Maps:
    """As `read_maps`, of an .npz those that belong to the pictures that gpcnn-score reads of it."""
    if not zipfile.is_zipfile(path):
        return read_maps(path, spec)
    with zipfile.ZipFile(path) as archive:
        held = {name.removesuffix(".npy").lower() for name in archive.namelist()}
    names = next((names for images, names in _BESIDE_PICTURES.items() if images in held), NAMES)
    name, array = read_array(path, names)
    return _of_array(name, array, spec)


def read_small_picture(
    path: Path, spec: ModelSpec, resize: bool = False, invert: bool = False, preparation: Preparation | None = None
) -> npt.NDArray[np.uint8]:
    """A picture of the size that a model enlarges: uint8 [C, h, w].

    Args:
        path: of the picture.
        spec: the model's.
        resize: make one of another size, mode or depth fit.
        invert: swap dark and light.
        preparation: the engine's: convert what training converted, the size apart.

    Raises:
        DataError: it cannot be read, or does not fit.
    """
    prepared = preparation or Preparation()
    target = Target(
        size=(spec.map_height, spec.map_width),
        channels=spec.channels,
        resampling=(prepared.resampling or "area") if resize else None,
        converts=resize or prepared.colour is not None,
        background=prepared.background,
        model_takes=True,
    )
    pixels = read_picture(path, target)
    return 255 - pixels if invert else pixels


def _of_picture(path: Path, spec: ModelSpec) -> Maps:
    planes, height, width = spec.map_shape
    if spec.map_kind == "picture":
        return values_of_pixels(read_small_picture(path, spec))[None]
    if planes not in (1, 3):
        raise DataError(f"{path}: the model's maps have {planes} planes: expected an .npy of [h, w, {planes}]")
    if spec.map_kind == "categories":
        return fitting_maps(str(path), read_numbers(path, planes)[None], spec)
    pixels = read_picture(path, Target(size=(height, width), channels=planes, model_takes=True))
    return pixels[None].astype(np.float32) * np.float32(1 / 255)


def _of_array(name: str, array: npt.NDArray[Any], spec: ModelSpec) -> Maps:
    if spec.map_kind != "picture":
        return fitting_maps(name, checked_maps(name, array), spec)
    pixels = images_to_pixels(name, array, images_layout(name, array.shape, array.dtype))
    return fitting_maps(name, values_of_pixels(pixels), spec)
