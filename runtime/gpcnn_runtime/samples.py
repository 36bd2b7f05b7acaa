"""Images drawn, with what is known of each."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.pictures.levels import grid, pixels_from_levels


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Images drawn, in the order of their positions in the call: condition by condition, `count` images of each.

    Attributes:
        levels: uint8 [N, C, H, W], each in [0, K); uint16 of more than 256 levels.
        log_prob: float32 [N, C, H, W], nats of each sub-pixel given those before it, at temperature 1.
        labels: int32 [N], or None for a model without labels.
        positions: int64 [N], each image's place in the call; its noise is stream (seed, first + position).
        evaluations: evaluations of the network, each over a part of the batch; None where the engine does not count.
        seconds: wall-clock time of drawing, in seconds.
        depth: K, the number of levels.
        pictures: of a VQ-VAE, whose levels are codes: uint8 [N, C, H, W] of the pictures; else None.
    """

    levels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    log_prob: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32] | None
    positions: npt.NDArray[np.int64]
    evaluations: int | None
    seconds: float
    depth: int
    pictures: npt.NDArray[np.uint8] | None = dataclasses.field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.levels)

    def pixels(self) -> npt.NDArray[np.uint8]:
        """The pictures of a VQ-VAE, or levels spread over 8-bit values: uint8 [N, C, H, W]."""
        if self.pictures is not None:
            return self.pictures
        return pixels_from_levels(self.levels, self.depth)

    def grid(self, columns: int | None = None) -> npt.NDArray[np.uint8]:
        """All images on one sheet: uint8 [rows, columns] or, in colour, [rows, columns, 3]."""
        return grid(self.pixels(), columns)

    def log_likelihood(self) -> npt.NDArray[np.float64]:
        """Log-probability of each image under the model: float64 [N], nats."""
        nats: npt.NDArray[np.float64] = self.log_prob.sum(axis=(1, 2, 3), dtype=np.float64)
        return nats


def join(chunks: list[Samples], seconds: float) -> Samples:
    """All images of one call, in order; `seconds` is what the call took."""
    if len(chunks) == 1:
        return dataclasses.replace(chunks[0], seconds=seconds)
    counted = [chunk.evaluations for chunk in chunks]
    labels = [chunk.labels for chunk in chunks if chunk.labels is not None]
    pictures = [chunk.pictures for chunk in chunks if chunk.pictures is not None]
    return Samples(
        np.concatenate([chunk.levels for chunk in chunks]),
        np.concatenate([chunk.log_prob for chunk in chunks]),
        np.concatenate(labels) if labels else None,
        np.concatenate([chunk.positions for chunk in chunks]),
        None if None in counted else sum(number for number in counted if number is not None),
        seconds,
        chunks[0].depth,
        pictures=np.concatenate(pictures) if pictures else None,
    )
