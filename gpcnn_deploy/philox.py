"""The noise contract: image k of seed s is a function of its own uniforms, drawn from Philox(key=(s, k))."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.spec import ModelSpec

MAX_SEED = 2**64 - 1


def noise(spec: ModelSpec, seed: int, count: int, first: int = 0) -> npt.NDArray[np.float32]:
    """Uniforms of images `first` to `first + count - 1` of a seed, whatever batch they are drawn in.

    Each image's stream is NumPy's Philox-4x64-10 with key (seed, index) and counter 0, drawn as float32 in raster
    order: row by row, column by column, and within a pixel channel by channel.

    Returns:
        float32 [N, C, H, W] in [0, 1).

    Raises:
        UsageError: the seed or an index does not fit 64 unsigned bits.
    """
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"seed is {seed}: expected 0 to 2**64 - 1")
    if first < 0 or count < 0 or first + count > MAX_SEED:
        raise UsageError(f"image indices {first} to {first + count} do not fit: expected 0 to 2**64 - 1")
    c, h, w = spec.image_shape
    noise_NCHW = np.empty((count, c, h, w), np.float32)
    for k in range(count):
        stream = np.random.Generator(np.random.Philox(key=np.array([seed, first + k], np.uint64)))
        noise_NCHW[k] = stream.random((h, w, c), np.float32).transpose(2, 0, 1)
    return noise_NCHW
