"""The sheet of codes of a VQ-VAE-2: both levels as one image, in the order in which they are drawn.

All top codes in raster order fill its first rows, the bottom codes those that follow. So one stream of noise draws the
top codes first, and what holds for the pixels of an image holds for the codes of both levels: known ones are kept, each
has its log-probability, and only earlier ones decide it.

Shape legend: … leading axes; H × W the sheet, h × w the bottom codes, h / 2 × w / 2 the top codes; W = w.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.spec import ModelSpec


def split_sheet(spec: ModelSpec, sheet: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.generic], ...]:
    """The levels of a sheet […, H, W]: (top […, h / 2, w / 2], bottom […, h, w]), contiguous; of one level, itself."""
    if spec.code_levels == 1:
        return (sheet,)
    top, bottom = spec.code_grids
    rows = spec.height - bottom[0]
    leading = sheet.shape[:-2]
    return (
        np.ascontiguousarray(sheet[..., :rows, :]).reshape(*leading, *top),
        np.ascontiguousarray(sheet[..., rows:, :]),
    )


def join_sheet(spec: ModelSpec, *levels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """What `split_sheet` splits."""
    if spec.code_levels == 1:
        return levels[0]
    top, bottom = levels
    return np.concatenate([top.reshape(*top.shape[:-2], -1, spec.width), bottom], axis=-2)
