"""Vectors between two vectors: along the line that joins them, or along a great circle.

The paper draws a row of images with the same noise under vectors on the line between two codes (section 3.3).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.text import counted

_PARALLEL = 1e-6
"""Radians: below, the great circle is the line; so near to a half turn, there is more than one circle."""


def interpolate(
    first: npt.ArrayLike, last: npt.ArrayLike, steps: int = 9, *, spherical: bool = False
) -> npt.NDArray[np.float32]:
    """Vectors from one to another, both ends included: float32 [steps, E].

    Args:
        first, last: float [E].
        steps: how many, at least 2, evenly spaced.
        spherical: turn from the direction of the first into that of the last at a constant speed, while the length
            changes evenly; else along the line. Vectors with Gaussian numbers have nearly one length, which the middle
            of a line has not.

    Raises:
        UsageError: vectors of different lengths, fewer than 2 steps, or none or several great circles: a vector of
            zeros, or two that point in opposite directions.
    """
    a, b = np.asarray(first, np.float64), np.asarray(last, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise UsageError(f"ends have shapes {list(a.shape)} and {list(b.shape)}: expected two vectors of one length")
    if steps < 2:
        raise UsageError(f"{counted(steps, 'step')}: expected at least 2, the two ends")
    share = np.linspace(0, 1, steps)[:, None]
    between = (1 - share) * a + share * b
    if spherical:
        lengths = np.linalg.norm(a), np.linalg.norm(b)
        if not all(lengths):
            raise UsageError("a vector of zeros has no direction: leave --spherical out")
        one, other = a / lengths[0], b / lengths[1]
        angle = 2 * np.arctan2(np.linalg.norm(one - other), np.linalg.norm(one + other))
        if np.pi - angle < _PARALLEL:
            raise UsageError(
                "the vectors point in opposite directions, so no one great circle joins them: leave --spherical out"
            )
        if angle > _PARALLEL:
            turned = (np.sin((1 - share) * angle) * one + np.sin(share * angle) * other) / np.sin(angle)
            between = turned * ((1 - share) * lengths[0] + share * lengths[1])
    found: npt.NDArray[np.float32] = between.astype(np.float32)
    found[0], found[-1] = np.asarray(first, np.float32), np.asarray(last, np.float32)
    return found
