"""Where in a picture the surprise is: -log p of every pixel as a colour, beside the picture itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.code_sheet import split_sheet
from gpcnn_deploy.pictures.levels import grid, save_png
from gpcnn_deploy.spec import ModelSpec

_SHORT_SIDE = 224  # picture pixels of a heatmap's shorter side, at least


def full_scale(spec: ModelSpec) -> float:
    """Nats of a pixel that is drawn white, in every picture: a hundred times less likely than a uniform guess."""
    return spec.channels * math.log(spec.levels) + math.log(100)


def heat(log_prob_CHW: npt.NDArray[Any], spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """Surprise of each pixel over its channels, from black (0 nats) by red and yellow to white: uint8 [3, H, W]."""
    share = np.clip(-np.asarray(log_prob_CHW, np.float64).sum(axis=0) / full_scale(spec), 0, 1)
    red, green, blue = (np.clip(3 * share - start, 0, 1) for start in (0, 1, 2))
    picture: npt.NDArray[np.uint8] = np.rint(np.stack([red, green, blue]) * 255).astype(np.uint8)
    return picture


def save_heatmap(
    path: Path, pixels_CHW: npt.NDArray[np.uint8], log_prob_CHW: npt.NDArray[Any], spec: ModelSpec
) -> None:
    """Write a picture and its surprise side by side, enlarged to be seen; of two levels of codes, that of each.

    Args:
        path: of the PNG.
        pixels_CHW: uint8 [C, H, W]; of a VQ-VAE, as many times larger as pixels belong to a code.
        log_prob_CHW: float [C, H, W], nats.
        spec: of the model.

    Raises:
        OutputError: the file cannot be written.
    """
    height, width = pixels_CHW.shape[1:]
    colour = np.broadcast_to(pixels_CHW, (3, height, width))
    surprise = []
    for level in split_sheet(spec, log_prob_CHW):
        rows, columns = level.shape[1:]
        surprise.append(heat(level, spec).repeat(height // rows, 1).repeat(width // columns, 2))
    sheet = grid(np.stack([colour, *surprise]), columns=1 + len(surprise))
    save_png(path, sheet, max(1, _SHORT_SIDE // min(height, width)))
