"""The border of the runtime: what a caller asks for is checked here once, against the model, and trusted behind it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import DataError, UsageError
from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.philox import MAX_SEED
from gpcnn_deploy.pictures.maps import Maps, fitting_maps
from gpcnn_deploy.text import counted, spanned

MIN_TEMPERATURE = 1e-6
"""Below it, logits divided by the temperature would leave the range of float32."""


@dataclasses.dataclass(frozen=True, eq=False)
class Conditions:
    """A checked request: M conditions, `count` images of each, N = M · count.

    Attributes:
        seed: of the noise.
        first: noise stream of the image at position 0.
        count: images of each condition.
        temperature: above 0, and in float32 too, as which engines take it.
        label: int32 [M], or None.
        embedding: float32 [M, E], or None.
        known: int32 [1 or N, C, H, W], 0 where the mask is false; None if nothing is known.
        mask: bool of the same shape, or None.
        same_noise: so many images in a row share a noise stream.
        map: int32 (categories) or float32 (values) [M, planes, h, w], or None.
    """

    seed: int
    first: int
    count: int
    temperature: float
    label: npt.NDArray[np.int32] | None
    embedding: npt.NDArray[np.float32] | None
    known: npt.NDArray[np.int32] | None
    mask: npt.NDArray[np.bool_] | None
    same_noise: int = 1
    map: Maps | None = None

    @property
    def total(self) -> int:
        """N."""
        given = next((array for array in (self.label, self.embedding, self.map) if array is not None), None)
        return self.count * (1 if given is None else len(given))


def check_conditions(
    metadata: EngineMetadata,
    labels: Any,
    seed: int,
    count: int,
    temperature: float,
    known: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None,
    embedding: npt.ArrayLike | None = None,
    first: int = 0,
    same_noise: int = 1,
    map: npt.ArrayLike | None = None,
) -> Conditions:
    """Check the arguments of `Sampler.sample`, which describes them.

    Raises:
        UsageError: what is wrong, what was expected, how to mend it.
    """
    if count < 1:
        raise UsageError(f"count is {count}: expected at least 1")
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"seed is {seed}: expected 0 to 2**64 - 1")
    with np.errstate(over="ignore", under="ignore"):
        in_graph = float(np.float32(temperature))
    if not (math.isfinite(in_graph) and in_graph >= np.float32(MIN_TEMPERATURE)):
        raise UsageError(
            f"temperature is {temperature:g}: expected {MIN_TEMPERATURE:g} or more (above 0); 1 is the model itself"
        )
    if same_noise < 1:
        raise UsageError(f"same_noise is {same_noise}: expected at least 1, which gives each image its own noise")
    label, vectors = _labels(metadata, labels), _embedding(metadata, embedding)
    maps = _map(metadata, map)
    conditions = Conditions(seed, first, count, temperature, label, vectors, None, None, same_noise, maps)
    total = conditions.total
    if first < 0 or first + total > MAX_SEED:
        raise UsageError(f"noise streams {spanned(first, first + total - 1)}: expected 0 to 2**64 - 2")
    levels, kept = _known(metadata, known, mask, total)
    return dataclasses.replace(conditions, known=levels, mask=kept)


def _labels(metadata: EngineMetadata, labels: Any) -> npt.NDArray[np.int32] | None:
    spec = metadata.spec
    if spec.conditioning != "label":
        if labels is not None:
            metadata.label_number(str(labels))  # raises: the model has no labels
        return None
    if labels is None:
        names = ", ".join(metadata.class_names)
        raise UsageError(f"this model draws one class at a time: choose with --label, one of {names}, or all")
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    several = list(labels) if isinstance(labels, Sequence) and not isinstance(labels, str) else [labels]
    if not several:
        raise UsageError("no labels: expected at least one")
    return np.array([_label(metadata, label) for label in several], np.int32)


def _label(metadata: EngineMetadata, label: Any) -> int:
    """An int is a number, even where a class has it for its name: of the classes '5' and '0', label 0 is '5'."""
    if isinstance(label, (int, np.integer)) and 0 <= label < metadata.spec.conditioning_size:
        return int(label)
    return metadata.label_number(str(label))


def _embedding(metadata: EngineMetadata, embedding: npt.ArrayLike | None) -> npt.NDArray[np.float32] | None:
    spec = metadata.spec
    if spec.conditioning != "embedding":
        if embedding is not None:
            raise UsageError("this model is not conditioned on an embedding: leave it out")
        return None
    if embedding is None:
        raise UsageError(
            f"this model is conditioned on an embedding: pass one, {counted(spec.conditioning_size, 'number')} long"
        )
    vectors = np.ascontiguousarray(np.atleast_2d(np.asarray(embedding, np.float32)))
    if vectors.ndim != 2 or vectors.shape[1] != spec.conditioning_size or len(vectors) == 0:
        raise UsageError(f"embedding has shape {np.shape(embedding)}: expected [M, {spec.conditioning_size}]")
    if not np.isfinite(vectors).all():
        raise UsageError("embedding holds nan or infinite numbers: expected finite ones")
    return vectors


def _map(metadata: EngineMetadata, given: npt.ArrayLike | None) -> Maps | None:
    spec = metadata.spec
    if spec.conditioning != "map":
        if given is not None:
            raise UsageError("this model is not conditioned on a map: leave it out")
        return None
    planes, height, width = spec.map_shape
    if given is None:
        what = "small picture, its values from -1 to 1" if spec.map_kind == "picture" else "map"
        raise UsageError(f"this model is conditioned on a {what}: pass one, [{planes}, {height}, {width}]")
    maps = np.asarray(given)
    if maps.ndim == 3:
        maps = maps[None]
    if maps.ndim != 4 or len(maps) == 0 or maps.dtype.kind not in "iubf":
        raise UsageError(
            f"map is {maps.dtype} of shape {list(np.shape(given))}: expected [{planes}, {height}, {width}] or "
            f"[M, {planes}, {height}, {width}]"
        )
    try:
        fitting = fitting_maps("map", maps, spec)
    except DataError as error:
        raise UsageError(str(error)) from error
    if not np.isfinite(fitting).all():
        raise UsageError("map holds nan or infinite numbers: expected finite ones")
    return fitting


def _known(
    metadata: EngineMetadata, known: npt.ArrayLike | None, mask: npt.ArrayLike | None, total: int
) -> tuple[npt.NDArray[np.int32] | None, npt.NDArray[np.bool_] | None]:
    if known is None and mask is None:
        return None, None
    if known is None or mask is None:
        raise UsageError("known and mask belong together: pass both or neither")
    spec = metadata.spec
    levels, kept = np.asarray(known), np.asarray(mask)
    c, h, w = spec.image_shape
    for name, array in (("known", levels), ("mask", kept)):
        if array.shape not in ((c, h, w), (total, c, h, w)):
            raise UsageError(
                f"{name} has shape {list(array.shape)}: expected [{c}, {h}, {w}] or [{total}, {c}, {h}, {w}]"
            )
    if levels.dtype.kind not in "iu":
        raise UsageError(f"known has dtype {levels.dtype}: expected integer levels 0 to {spec.levels - 1}")
    if kept.dtype != np.bool_:
        raise UsageError(f"mask has dtype {kept.dtype}: expected bool")
    if levels.ndim != kept.ndim:
        levels, kept = np.broadcast_to(levels, (total, c, h, w)), np.broadcast_to(kept, (total, c, h, w))
    levels, kept = levels.reshape(-1, c, h, w), kept.reshape(-1, c, h, w)
    if kept.any() and (levels[kept].min() < 0 or levels[kept].max() >= spec.levels):
        raise UsageError(f"known holds levels outside 0 to {spec.levels - 1} where the mask keeps them")
    return np.where(kept, levels, 0).astype(np.int32), np.ascontiguousarray(kept)
