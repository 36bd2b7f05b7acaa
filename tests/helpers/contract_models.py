"""The models of `tests/contract/native_hashes.json`: weights by a recipe, so that any language can make them again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.model_file import Weights, encode_model_file, tensor_shapes
from gpcnn_deploy.philox import noise
from gpcnn_deploy.spec import ModelSpec

CONTRACT = Path(__file__).parents[1] / "contract" / "native_hashes.json"
SEED, IMAGES = 5, 3
SPECS = {
    "binary, filters of 5": ModelSpec(
        height=12, width=11, features=16, layers=4, first_kernel_size=5, kernel_size=5, head_features=24
    ),
    "17 levels, labels": ModelSpec(
        height=8, width=8, levels=17, features=12, layers=3, conditioning="label", conditioning_size=4, head_features=20
    ),
    "colour, 256 levels": ModelSpec(height=7, width=9, channels=3, levels=256, features=10, layers=3, head_features=12),
    "embeddings, filters of 7": ModelSpec(
        height=6,
        width=6,
        levels=4,
        features=8,
        layers=2,
        kernel_size=7,
        head_features=8,
        conditioning="embedding",
        conditioning_size=5,
    ),
    "300 categories, labels": ModelSpec(
        height=6,
        width=7,
        levels=300,
        features=12,
        layers=3,
        first_kernel_size=5,
        head_features=16,
        conditioning="label",
        conditioning_size=3,
        input="categorical",
        input_size=9,
    ),
    "colour of categories": ModelSpec(
        height=5,
        width=4,
        channels=3,
        levels=19,
        features=8,
        layers=2,
        head_features=8,
        input="categorical",
        input_size=4,
    ),
    "a mixture in colour": ModelSpec(
        height=6,
        width=7,
        channels=3,
        levels=256,
        features=12,
        layers=3,
        head_features=12,
        head="mixture",
        mixtures=10,
    ),
    "a mixture in grey, labels": ModelSpec(
        height=7,
        width=6,
        levels=17,
        features=9,
        layers=2,
        kernel_size=5,
        head_features=7,
        conditioning="label",
        conditioning_size=3,
        head="mixture",
        mixtures=19,
    ),
    "map of categories, filters of 5": ModelSpec(
        height=8,
        width=12,
        levels=6,
        features=12,
        layers=3,
        kernel_size=5,
        head_features=10,
        conditioning="map",
        conditioning_size=2,
        map_height=4,
        map_width=2,
        map_features=9,
        map_categories=5,
        map_kind="categories",
    ),
    "colour, a small picture": ModelSpec(
        height=6,
        width=9,
        channels=3,
        levels=5,
        features=8,
        layers=2,
        head_features=8,
        conditioning="map",
        conditioning_size=3,
        map_height=2,
        map_width=3,
        map_features=6,
        map_kind="picture",
    ),
}


def recipe_weights(spec: ModelSpec) -> Weights:
    """Weights from uniforms: tensor t of a model file has NumPy's Philox of key (0, t), drawn as float32.

    A uniform u becomes (u - 1/2) · s, with s the power of two next below 6 / √(numbers that a sum adds up).
    """
    weights: Weights = {}
    for t, (name, shape) in enumerate(tensor_shapes(spec).items()):
        stream = np.random.Generator(np.random.Philox(key=np.array([0, t], np.uint64)))
        terms = math.prod(shape[1:]) if len(shape) > 1 else 36
        scale = np.float32(2.0 ** math.floor(math.log2(6 / math.sqrt(terms))))
        weights[name] = (stream.random(shape, np.float32) - np.float32(0.5)) * scale
    return weights


def recipe_file(spec: ModelSpec) -> bytes:
    """The model file of `recipe_weights`."""
    names = tuple(str(k) for k in range(spec.conditioning_size)) if spec.conditioning == "label" else ()
    parameters = sum(math.prod(shape) for shape in tensor_shapes(spec).values())
    metadata = EngineMetadata(
        role="weights", spec=spec, class_names=names, parameters=parameters, checkpoint_digest="0" * 64, tools={}
    )
    return encode_model_file(metadata, recipe_weights(spec))


def recipe_inputs(spec: ModelSpec) -> dict[str, npt.NDArray[Any]]:
    """Noise and condition of the images: label i modulo the labels, embedding i the first noise of the next seed.

    So is map i, of categories the noise times their number, rounded down; as float32, which the kernel takes.
    """
    inputs: dict[str, npt.NDArray[Any]] = {"noise": noise(spec, SEED, IMAGES)}
    if spec.conditioning == "label":
        inputs["label"] = np.arange(IMAGES, dtype=np.int32) % np.int32(spec.conditioning_size)
    elif spec.conditioning == "embedding":
        other = noise(spec, SEED + 1, IMAGES).reshape(IMAGES, -1)
        inputs["embedding"] = np.ascontiguousarray(other[:, : spec.conditioning_size])
    elif spec.conditioning == "map":
        numbers = noise(spec, SEED + 1, IMAGES).reshape(IMAGES, -1)[:, : math.prod(spec.map_shape)]
        numbers = numbers.reshape(IMAGES, *spec.map_shape)
        inputs["map"] = np.floor(numbers * np.float32(spec.map_categories)) if spec.map_categories else numbers.copy()
    return inputs


def hash_words(array: npt.NDArray[Any]) -> str:
    """FNV-1a, 64 bits, of the little-endian bytes of int32 or float32."""
    value = 14695981039346656037
    for byte in array.astype(array.dtype.newbyteorder("<")).tobytes():
        value = (value ^ byte) * 1099511628211 % 2**64
    return f"{value:016x}"


def eager_condition(spec: ModelSpec, inputs: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any] | None:
    """What eager PyTorch takes of `recipe_inputs`."""
    if spec.conditioning == "none":
        return None
    given = inputs[spec.conditioning]
    return given.astype(np.int64) if spec.conditioning == "label" or spec.map_categories else given


def contract() -> dict[str, Any]:
    """What is written down."""
    written: dict[str, Any] = json.loads(CONTRACT.read_text())
    return written
