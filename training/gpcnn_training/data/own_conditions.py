"""What describes the images of an .npz beside their labels: vectors, or maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.arrays import EMBEDDINGS, Part, checked_vectors
from gpcnn_deploy.pictures.maps import MAPS, Maps, checked_maps
from gpcnn_deploy.text import counted
from gpcnn_training.data.dataset import Embeddings

Arrays = Mapping[str, npt.NDArray[Any]]
Array = TypeVar("Array", bound=npt.NDArray[Any])


def embeddings_of(
    path: Path, arrays: Arrays, part: Part, images: int, train: Embeddings | None = None
) -> Embeddings | None:
    """The vectors of a part's images, float32 [N, E]; None where the file has none.

    Args:
        path: the file, for messages.
        arrays: what it holds.
        part: which images.
        images: how many there are.
        train: the vectors of the training images, whose length those of other parts must have.

    Raises:
        DataError: they are missing, of another shape or type, or not finite.
    """
    spelled = {name.lower(): name for name in arrays}
    found = next((spelled[name] for name in EMBEDDINGS[part] if name in spelled), None)
    if part != "train" and train is None:
        return None
    if found is None:
        if part == "train":
            return None
        raise DataError(f"{path}: has no array '{EMBEDDINGS[part][0]}': expected [{images}, E], one row per image")
    vectors = checked_vectors(f"{path}: {found}", arrays[found])
    wanted = [images, vectors.shape[1] if train is None else train.shape[1]]
    if list(vectors.shape) != wanted:
        raise DataError(f"{path}: {found} have shape {list(vectors.shape)}: expected {wanted}, one row per image")
    return vectors


def maps_of(path: Path, arrays: Arrays, part: Part, images: int, train: Maps | None = None) -> Maps | None:
    """The maps of a part's images, int32 or float32 [N, M, h, w]; None where the file has none.

    Args:
        path, arrays, part, images: as of `embeddings_of`.
        train: the maps of the training images, whose size and type those of other parts must have.

    Raises:
        DataError: they are missing, of another shape or type, out of range or not finite.
    """
    spelled = {name.lower(): name for name in arrays}
    found = next((spelled[name] for name in MAPS[part] if name in spelled), None)
    if part != "train" and train is None:
        return None
    if found is None:
        if part == "train":
            return None
        raise DataError(f"{path}: has no array '{MAPS[part][0]}': expected [{images}, h, w, M], a map for each image")
    maps = checked_maps(f"{path}: {found}", arrays[found])
    if len(maps) != images:
        raise DataError(f"{path}: {found} are {counted(len(maps), 'map')}: expected {images}, one for each image")
    if train is not None and (maps.shape[1:], maps.dtype) != (train.shape[1:], train.dtype):
        wanted, held = ([x.shape[2], x.shape[3], x.shape[1]] for x in (train, maps))
        raise DataError(
            f"{path}: {found} are {maps.dtype} of shape {held} (rows, columns, planes): expected {train.dtype} of "
            f"{wanted}, as those of the training images"
        )
    return maps


def joined(first: Array | None, second: Array | None) -> Array | None:
    """Those of both parts, one after the other."""
    return first if first is None or second is None else np.concatenate([first, second])  # type: ignore[return-value]
