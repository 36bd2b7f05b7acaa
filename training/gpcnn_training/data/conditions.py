"""What each image of a data set is drawn from, as a model takes it: its label, its vector, or its map."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError
from gpcnn_deploy.pictures.maps import Maps, fitting_maps, maps_of_pictures
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.text import counted
from gpcnn_training.data.dataset import DataSet

Conditions = npt.NDArray[Any] | None
"""One for each image along the first axis; None for a model without conditions, and for an autoencoder, which makes
them of the images."""

LARGE = 10.0
"""A standard deviation of embeddings beyond which a run says so: weights start for numbers near 1."""


def conditions_of(data: DataSet, spec: ModelSpec, own_codes: bool) -> tuple[Conditions, Conditions]:
    """Those of the training and of the test images.

    Args:
        data: the data set.
        spec: the model's.
        own_codes: the model is an autoencoder.

    Raises:
        DataError: the data set has none that fit the model.
    """
    if spec.conditioning == "label":
        return data.train_labels, data.test_labels
    if spec.conditioning == "embedding" and not own_codes:
        length = 0 if data.train_embeddings is None else data.train_embeddings.shape[1]
        if length != spec.conditioning_size:
            found = f"embeddings of {counted(length, 'number')}" if length else "no array 'embeddings'"
            raise DataError(
                f"{data.name}: has {found}: expected embeddings of {counted(spec.conditioning_size, 'number')}, as the "
                "model has"
            )
        return data.train_embeddings, data.test_embeddings
    if spec.conditioning == "map":
        if spec.map_kind == "picture":
            return maps_of_pictures(data.train_pixels, spec), maps_of_pictures(data.test_pixels, spec)
        return _fitting(data, data.train_maps, spec), _fitting(data, data.test_maps, spec)
    return None, None


def _fitting(data: DataSet, maps: Maps | None, spec: ModelSpec) -> Maps:
    if maps is None:
        raise DataError(f"{data.name}: has no array 'maps': expected a map for each image, as the model is drawn under")
    return fitting_maps(f"{data.name}: maps", maps, spec)


def data_digest(data: DataSet, spec: ModelSpec, own_codes: bool) -> str:
    """SHA-256 of all that a model of this kind is trained on: how a resumed run tells whether its data are the same."""
    digest = data.digest()
    if spec.conditioning not in ("embedding", "map") or spec.map_kind == "picture" or own_codes:
        return digest
    both = hashlib.sha256(digest.encode())
    for array in conditions_of(data, spec, own_codes):
        assert array is not None
        both.update(repr(array.shape).encode())
        both.update(np.ascontiguousarray(array).data)
    return both.hexdigest()


def note_on_scale(data: DataSet, spec: ModelSpec) -> str | None:
    """What to say of vectors, or of a map's values, on an unusual scale; None where there is nothing to say."""
    what, numbers = ("maps", data.train_maps) if spec.conditioning == "map" else ("embeddings", data.train_embeddings)
    if numbers is None or numbers.dtype.kind != "f" or spec.map_kind == "picture":
        return None
    spread = float(numbers.std())
    if 1 / LARGE <= spread <= LARGE:
        return None
    return f"{what} have a standard deviation of {spread:.3g}: a model learns best from numbers near 1"
