"""`gpcnn-sample --like`: pictures that an autoencoder encodes, and images drawn from their codes."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.pictures.levels import compact, grid, pixels_from_levels
from gpcnn_deploy.text import counted
from gpcnn_runtime.commands.sample.given import Given
from gpcnn_runtime.commands.sample.wants import not_for_it, nothing_given
from gpcnn_runtime.engines.onnxruntime.encoder import Encoder
from gpcnn_runtime.inputs.picture import read_levels
from gpcnn_runtime.sampler import Sampler

SHEET_COLUMNS = 10


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Likes(Given):
    """M pictures and their codes.

    Attributes:
        levels: int32 [M, C, H, W], what the encoder saw.
    """

    levels: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        return f"like {self.names[0]}" if len(self) == 1 else f"like {counted(len(self), 'picture')}"

    def digest(self) -> str:
        """Hexadecimal SHA-256 of what the encoder saw."""
        return hashlib.sha256(self.levels.tobytes()).hexdigest()

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What an .npz keeps of them."""
        return {"original": compact(self.levels, self.depth), "embedding": self.vectors}

    def job(self) -> dict[str, Any]:
        """Fields of a `Job`."""
        return {"likes": len(self), "like_digest": self.digest()}

    def report(self) -> dict[str, Any]:
        """Fields of a `SampleReport`."""
        return {"like": self.names}

    def sheet(self, drawn: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
        """What was drawn beside what it was drawn from.

        One picture comes first, then its images in reading order. Of several, each begins a row of its images; with one
        image each, the pictures are the first row and the images the second.

        Args:
            drawn: levels uint8 [M · count, C, H, W], picture by picture.
            count: images of each picture.

        Returns:
            uint8 [rows, columns] for grey, [rows, columns, 3] for colour.
        """
        images = drawn.reshape(len(self), count, *drawn.shape[1:])
        both = np.concatenate([compact(self.levels, self.depth)[:, None], images], axis=1)
        columns = count + 1
        if len(self) == 1:
            columns = max(SHEET_COLUMNS, math.isqrt(count + 1))
        elif count == 1:
            both, columns = both.swapaxes(0, 1), len(self)
        return grid(pixels_from_levels(both.reshape(-1, *drawn.shape[1:]), self.depth), columns)


def encode_likes(sampler: Sampler, paths: Sequence[Path], resize: bool = False, invert: bool = False) -> Likes | None:
    """The pictures that `--like` names, encoded by the encoder beside the engine; None for none.

    Raises:
        UsageError: pictures for a model that takes none, or none for a model that needs one.
        EngineError: the encoder is missing, damaged, or that of another engine.
        DataError: a picture cannot be read, or does not fit the model.
    """
    spec = sampler.metadata.spec
    if not paths:
        if spec.conditioning != "embedding":
            return None
        raise nothing_given(sampler)
    if spec.conditioning == "map":
        raise not_for_it(sampler, "--like")

    def _read(path: Path) -> npt.NDArray[np.int32]:
        return read_levels(path, spec, resize=resize, invert=invert, preparation=sampler.metadata.preparation)

    with Encoder.beside(sampler.engine) as encoder:
        levels = np.stack([_read(path) for path in paths])
        return Likes(
            names=tuple(map(str, paths)),
            embedding=encoder.embed(levels),
            depth=spec.levels,
            shown=len(paths),
            levels=levels,
        )
