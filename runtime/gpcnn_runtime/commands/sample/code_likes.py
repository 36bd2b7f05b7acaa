"""`gpcnn-sample --like` with a VQ-VAE: a picture, as it comes back from its codes, and pictures of some of them."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.pictures.levels import grid
from gpcnn_deploy.text import counted
from gpcnn_runtime.commands.sample.given import Given
from gpcnn_runtime.conditions import Conditions, check_conditions
from gpcnn_runtime.engines.codes import code_encoder, decode_codes
from gpcnn_runtime.inputs.picture import read_pixels
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.scores import score

VARY = 0.5
SHEET_COLUMNS = 10
_APART = 0x9E3779B97F4A7C15
"""Keys of the streams that say which codes stay are apart from those of the noise by this."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CodeLikes(Given):
    """M pictures and their codes.

    Attributes:
        pixels: uint8 [M, C, H, W], the pictures.
        back: the same, as they come back from their codes.
        codes: int32 [M, 1, h, w].
        each: images of each, under all labels.
        vary: share of the codes that are drawn anew.
    """

    pixels: npt.NDArray[np.uint8]
    back: npt.NDArray[np.uint8]
    codes: npt.NDArray[np.int32]
    each: int
    vary: float

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        return f"like {self.names[0]}" if len(self) == 1 else f"like {counted(len(self), 'picture')}"

    def digest(self) -> str:
        """Hexadecimal SHA-256 of the codes, and of how many of them stay."""
        return hashlib.sha256(self.codes.tobytes() + repr(self.vary).encode()).hexdigest()

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What an .npz keeps of them."""
        return {"original": self.pixels, "reconstruction": self.back, "codes": self.codes}

    def job(self) -> dict[str, Any]:
        """Fields of a `Job`."""
        return {"likes": len(self), "like_digest": self.digest()}

    def report(self) -> dict[str, Any]:
        """Fields of a `SampleReport`."""
        return {"like": self.names}

    def sheet(self, drawn: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
        """Each picture, as it comes back, and the images like it; of several pictures, each has a row.

        Args:
            drawn: pictures uint8 [M · each, C, H, W].
            count: not used.

        Returns:
            uint8 [rows, columns] for grey, [rows, columns, 3] for colour.
        """
        images = drawn.reshape(len(self), self.each, *drawn.shape[1:])
        rows = np.concatenate([self.pixels[:, None], self.back[:, None], images], axis=1)
        columns = rows.shape[1] if len(self) > 1 else max(SHEET_COLUMNS, math.isqrt(rows.shape[1]))
        return grid(rows.reshape(-1, *drawn.shape[1:]), columns)


def encode_code_likes(
    sampler: Sampler,
    paths: Sequence[Path],
    seed: int,
    count: int,
    temperature: float,
    vary: float,
    resize: bool = False,
    invert: bool = False,
    labels: Sequence[int] | None = None,
) -> tuple[CodeLikes, Conditions]:
    """The pictures that `--like` names, and the request for images like them.

    Of each image, about the share `vary` of the codes is drawn anew; the others are those of the picture. Which ones
    stay depends on the seed and the position alone. A model with labels draws under each of `labels`, `count` images of
    a picture and a label; where none is named, under the one under which the picture's codes are most likely.

    Raises:
        UsageError: the request cannot be drawn.
        DataError: a picture cannot be read, or does not fit the model.
        EngineError, MissingExtraError: there is no encoder that can be used.
    """
    metadata = sampler.metadata
    pixels = np.stack(
        [
            read_pixels(path, metadata.pictures, resize=resize, invert=invert, preparation=metadata.preparation)
            for path in paths
        ]
    )
    if count < 1:
        raise UsageError(f"count is {count}: expected at least 1")
    codes = code_encoder(sampler.engine).encode(pixels)
    each = count * (1 if labels is None else len(labels))
    total = len(paths) * each
    key = [np.array([seed ^ _APART, position], np.uint64) for position in range(total)]
    stay = np.stack([np.random.Generator(np.random.Philox(key=one)).random(codes.shape[1:]) >= vary for one in key])
    drawn_under: list[int] | None = None
    if labels is not None:
        drawn_under = [*labels] * len(paths)
    elif (posterior := score(sampler, codes).posterior()) is not None:
        drawn_under = posterior.argmax(axis=1).tolist()
    conditions = check_conditions(
        metadata,
        drawn_under,
        seed,
        total if drawn_under is None else count,
        temperature,
        known=codes.repeat(each, axis=0),
        mask=stay,
    )
    likes = CodeLikes(
        names=tuple(map(str, paths)),
        embedding=np.zeros((len(paths), 0), np.float32),
        depth=metadata.spec.levels,
        shown=2 * len(paths),
        pixels=pixels,
        back=decode_codes(sampler.engine, codes),
        codes=codes,
        each=each,
        vary=vary,
    )
    return likes, conditions
