"""Pictures that users hand in → pixels and levels of a model. What does not fit is refused before it is decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.pictures.files import Target, read_picture
from gpcnn_deploy.pictures.levels import levels_from_pixels
from gpcnn_deploy.preparation import Preparation
from gpcnn_deploy.spec import PictureSpec


def read_levels(
    path: str | Path,
    spec: PictureSpec,
    *,
    resize: bool = False,
    invert: bool = False,
    preparation: Preparation | None = None,
) -> npt.NDArray[np.int32]:
    """A picture as the nearest levels of a model.

    Args:
        path: of a PNG, JPEG, BMP, GIF, WebP, TIFF or PNM file; it is turned as its Exif says.
        spec: what it must fit: W×H pixels, without colour for C = 1; 8 bits.
        resize: convert a picture of another size, mode or depth; another aspect is stretched.
        invert: swap dark and light.
        preparation: the engine's, `sampler.metadata.preparation`: convert what training converted, in the same way.

    Returns:
        int32 [C, H, W], each in [0, K).

    Raises:
        DataError: missing, not a picture, truncated, animated, enormous, or not of the model's size, mode or depth.
    """
    pixels = read_pixels(path, spec, resize=resize, invert=invert, preparation=preparation)
    return levels_from_pixels(pixels, spec.levels)


def read_pixels(
    path: str | Path,
    spec: PictureSpec,
    *,
    resize: bool = False,
    invert: bool = False,
    preparation: Preparation | None = None,
) -> npt.NDArray[np.uint8]:
    """As `read_levels`, before pixels become levels: uint8 [C, H, W].

    Raises:
        DataError: as `read_levels`.
    """
    pixels = read_picture(path, target_of(spec, resize, preparation))
    return 255 - pixels if invert else pixels


def target_of(spec: PictureSpec, resize: bool = False, preparation: Preparation | None = None) -> Target:
    """What pictures must become for a model, and what may be done to them for it."""
    prepared = preparation or Preparation()
    resampling = prepared.resampling or "area" if resize or prepared.image_size is not None else None
    return Target(
        size=(spec.height, spec.width),
        channels=spec.channels,
        resampling=resampling,
        converts=resize or prepared.colour is not None,
        background=prepared.background,
        model_takes=True,
    )
