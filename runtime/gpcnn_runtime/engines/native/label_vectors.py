"""A model with labels as one with vectors: a label is a one-hot vector, and so is every mixture of labels one.

Equation 4 of the paper has V^T h in every gate, and of labels h is one-hot. The table of a model with labels is V
itself, so the same weights take any vector. One-hot vectors draw the very images of their labels, bit for bit.
"""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.model_file import decode_model_file, encode_model_file
from gpcnn_runtime.engines.base import Engine
from gpcnn_runtime.engines.native.engine import NativeEngine
from gpcnn_runtime.engines.native.load import native_engine
from gpcnn_runtime.zoo.catalogue import engine_name

_TABLE = "condition_projection.weight"


def with_vectors(engine: Engine, reproducible: bool = False) -> Engine:
    """A second engine of the same weights that takes vectors, E the number of labels; `info` is that of the first.

    Args:
        engine: the native engine of a model with labels.
        reproducible: as in `load_native_engine`.

    Raises:
        UsageError: an engine of another kind: ONNX and TensorRT engines look a label up by its number.
        EngineError: no memory for the weights.
    """
    content = engine.info.content
    if not isinstance(engine, NativeEngine) or content is None:
        raise UsageError(
            f"{engine_name(engine.info.path)} looks labels up by number and cannot mix them: name a model file, which "
            "can: gpcnn-export --format native, then --engine model.gpcnn"
        )
    metadata, weights = decode_model_file(content, str(engine.info.path))
    if metadata.spec.conditioning != "label":
        raise UsageError(f"{engine_name(engine.info.path)} has no labels: expected a model with labels")
    spec = msgspec.structs.replace(metadata.spec, conditioning="embedding")
    vectors = encode_model_file(
        msgspec.structs.replace(metadata, spec=spec, class_names=()),
        {**weights, _TABLE: np.ascontiguousarray(weights[_TABLE].T)},
    )
    made = native_engine(engine.info.path, vectors, reproducible=reproducible)
    made.info = dataclasses.replace(made.info, content=content)
    return made
