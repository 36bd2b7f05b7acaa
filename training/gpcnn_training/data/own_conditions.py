"""What describes the images of an .npz beside their labels: vectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.arrays import EMBEDDINGS, Part, checked_vectors
from gpcnn_training.data.dataset import Embeddings

Arrays = Mapping[str, npt.NDArray[Any]]


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


def joined(first: Embeddings | None, second: Embeddings | None) -> Embeddings | None:
    """Those of both parts, one after the other."""
    return first if first is None or second is None else np.concatenate([first, second])
