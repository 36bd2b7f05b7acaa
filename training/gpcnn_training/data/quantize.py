"""Pixels → levels: binarized at random (MNIST, as in the reference implementation) or rounded to the nearest level."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.pictures.levels import levels_from_pixels
from gpcnn_deploy.spec import Quantization


def quantization_for(channels: int, levels: int) -> Quantization:
    """Grey images with two levels are binarized at random; everything else is rounded."""
    return "stochastic-binary" if levels == 2 and channels == 1 else "nearest"


def stream(*key: int) -> np.random.Generator:
    """Random numbers that depend on `key` alone (at most two numbers of 64 bits): what makes a run repeatable."""
    return np.random.Generator(np.random.Philox(key=np.array([*key, 0][:2], np.uint64)))


def to_levels(
    pixels: npt.NDArray[np.uint8], levels: int, quantization: Quantization, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Levels 0..K-1 of 8-bit pixels, same shape, int64.

    With `stochastic-binary` a pixel becomes 1 with probability value/255, drawn from `random`. `codes` are levels
    already, and of any integer type.
    """
    if quantization == "codes":
        return pixels.astype(np.int64)
    if quantization == "stochastic-binary":
        return (random.random(pixels.shape, np.float32) * np.float32(255) < pixels).astype(np.int64)
    return levels_from_pixels(pixels, levels).astype(np.int64)
