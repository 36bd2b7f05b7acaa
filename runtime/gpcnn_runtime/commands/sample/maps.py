"""`gpcnn-sample --map` and `--upscale`: maps of files, and small pictures with the images that were drawn of them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.pictures.levels import grid, pixels_from_levels
from gpcnn_deploy.pictures.maps import Maps, enlarged, values_of_pixels
from gpcnn_runtime.commands.sample.given import Given
from gpcnn_runtime.commands.sample.wants import not_for_it, nothing_given
from gpcnn_runtime.inputs.maps import read_maps, read_small_picture
from gpcnn_runtime.sampler import Sampler


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class GivenMaps(Given):
    """M maps.

    Attributes:
        small: uint8 [M, C, h, w], small pictures, where the maps are such.
    """

    map: Maps
    small: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.map)

    def digest(self) -> str:
        """Hexadecimal SHA-256 of what they are."""
        return hashlib.sha256(repr((self.map.shape, str(self.map.dtype))).encode() + self.map.tobytes()).hexdigest()

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What an .npz keeps of them."""
        return {"map": self.map.transpose(0, 2, 3, 1)}

    def report(self) -> dict[str, Any]:
        """Fields of a `SampleReport`."""
        return {"maps": self.names} if self.small is None else {"upscale": self.names}

    def sheet(self, drawn: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
        """As `Given.sheet`; each small picture, with its pixels as blocks, begins a row of its images."""
        if self.small is None:
            return super().sheet(drawn, count)
        images = pixels_from_levels(drawn, self.depth).reshape(len(self), count, *drawn.shape[1:])
        blocks = enlarged(self.small, *drawn.shape[2:])
        both = np.concatenate([blocks[:, None], images], axis=1)
        return grid(both.reshape(-1, *drawn.shape[1:]), count + 1)

    def __str__(self) -> str:
        what = "maps" if self.small is None else "pictures"
        return f"of {self.names[0]}" if len(self.names) == 1 else f"of {len(self.names)} {what}"


def read_given_maps(
    sampler: Sampler,
    maps: Sequence[str],
    small: Sequence[Path],
    resize: bool = False,
    invert: bool = False,
) -> GivenMaps:
    """What `--map` or `--upscale` names.

    Args:
        sampler: the engine.
        maps: files with maps.
        small: pictures to enlarge.
        resize, invert: of those pictures.

    Raises:
        UsageError: the model takes no map, or another kind of one, or needs one and none is named.
        DataError: a file cannot be read, or does not fit the model.
    """
    spec = sampler.metadata.spec
    if spec.conditioning != "map" or (small and spec.map_kind != "picture"):
        raise not_for_it(sampler, "--upscale" if small else "--map")
    if not small and not maps:
        raise nothing_given(sampler)
    if not small:
        found = [read_maps(text, spec) for text in maps]
        return GivenMaps(names=tuple(maps), map=np.concatenate(found), depth=spec.levels)
    preparation = sampler.metadata.preparation
    pixels = np.stack([read_small_picture(path, spec, resize, invert, preparation) for path in small])
    return GivenMaps(
        names=tuple(map(str, small)),
        map=values_of_pixels(pixels),
        depth=spec.levels,
        shown=len(small),
        small=pixels,
    )
