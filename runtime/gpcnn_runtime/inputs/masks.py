"""Masks of pictures to complete, from what people say: rows to keep, a box to draw, a picture in black and white."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.preparation import Preparation
from gpcnn_deploy.spec import PictureSpec
from gpcnn_deploy.text import spanned

MASK_WHITE = 128  # the darkest grey of a mask's picture that counts as white


def keep_rows(spec: PictureSpec, rows: int) -> npt.NDArray[np.bool_]:
    """The mask that keeps the first rows: bool [H, W].

    Raises:
        UsageError: so many rows keep nothing, or everything.
    """
    if not 1 <= rows < spec.height:
        raise UsageError(
            f"--rows {rows}: expected {spanned(1, spec.height - 1)}, the rows to keep of the {spec.height}"
        )
    mask = np.zeros((spec.height, spec.width), np.bool_)
    mask[:rows] = True
    return mask


def keep_outside(spec: PictureSpec, box: str) -> npt.NDArray[np.bool_]:
    """The mask that keeps all but a box `X,Y,W,H`: bool [H, W].

    Raises:
        UsageError: not four whole numbers, or a box that leaves the image or covers all of it.
    """
    try:
        x, y, width, height = (int(part) for part in box.split(","))
    except ValueError as error:
        raise UsageError(f"--box {box}: expected four whole numbers X,Y,W,H, as in --box 0,0,4,4") from error
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > spec.width or y + height > spec.height:
        raise UsageError(
            f"--box {box}: leaves the image or is empty: expected X,Y,W,H with X + W up to {spec.width} and Y + H up "
            f"to {spec.height}"
        )
    if (width, height) == (spec.width, spec.height):
        raise UsageError(f"--box {box}: covers the whole image: leave a pixel to keep")
    mask = np.ones((spec.height, spec.width), np.bool_)
    mask[y : y + height, x : x + width] = False
    return mask


def read_mask(
    path: Path, spec: PictureSpec, *, resize: bool = False, preparation: Preparation | None = None
) -> npt.NDArray[np.bool_]:
    """The mask that a picture shows, white to draw and black to keep: bool [H, W], true to keep.

    Args:
        path: of a grey (or 1-bit) picture of W×H pixels.
        spec: the model's.
        resize: convert a picture of another size, mode or depth.
        preparation: as in `picture.read_levels`.

    Raises:
        DataError: as `picture.read_levels`.
        UsageError: it is black everywhere, or white.
    """
    from gpcnn_runtime.inputs.picture import read_pixels

    grey_spec = msgspec.structs.replace(spec, channels=1)
    grey_HW = read_pixels(path, grey_spec, resize=resize, preparation=preparation)[0]
    mask: npt.NDArray[np.bool_] = grey_HW < MASK_WHITE
    for one, only in ((True, "black"), (False, "white")):
        if (mask == one).all():
            raise UsageError(
                f"--mask {path}: is {only} everywhere: expected white ({MASK_WHITE} and more) where to draw, black "
                "where to keep"
            )
    return mask
