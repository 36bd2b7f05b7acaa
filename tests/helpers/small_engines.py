"""Small models of random weights, their checkpoints, and their engines of every role and schedule."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import onnx
import torch

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.metadata import METADATA_KEY, EngineMetadata, encode_metadata
from gpcnn_deploy.schedule import Schedule, window_fields
from gpcnn_deploy.spec import EncoderSpec, ModelSpec
from gpcnn_export.graphs.encoder import encoder_graph
from gpcnn_export.graphs.sampler import sampler_graph
from gpcnn_export.graphs.step import step_graph
from gpcnn_training.architectures import make_network
from gpcnn_training.checkpoint import save_checkpoint
from gpcnn_training.network import Network

LABELLED = ModelSpec(
    height=6,
    width=5,
    levels=4,
    features=6,
    layers=3,
    first_kernel_size=5,
    head_features=8,
    conditioning="label",
    conditioning_size=3,
)
PLAIN = ModelSpec(height=4, width=6, channels=3, levels=7, features=4, layers=2, head_features=6)
EMBEDDED = ModelSpec(
    height=4, width=4, features=4, layers=2, head_features=6, conditioning="embedding", conditioning_size=5
)
MAPPED = ModelSpec(
    height=4,
    width=6,
    levels=5,
    features=4,
    layers=2,
    head_features=6,
    conditioning="map",
    conditioning_size=2,
    map_height=2,
    map_width=2,
    map_features=5,
    map_categories=3,
    map_kind="categories",
)
ENLARGED = ModelSpec(
    height=6,
    width=4,
    channels=3,
    levels=7,
    features=4,
    layers=2,
    head_features=6,
    conditioning="map",
    conditioning_size=3,
    map_height=3,
    map_width=2,
    map_features=4,
    map_kind="picture",
)
NAMES = ("boot", "3", "bag, red")
"""Names of three classes that are hard to tell from other things: a number that is another's, a comma, a space."""

Make = Callable[..., Path]


def names_of(spec: ModelSpec) -> tuple[str, ...]:
    """NAMES of three classes, numbers of others, nothing of a model without labels."""
    if spec.conditioning != "label":
        return ()
    return NAMES if spec.conditioning_size == len(NAMES) else tuple(map(str, range(spec.conditioning_size)))


@functools.cache
def model_of(spec: ModelSpec, seed: int = 0, scale: float = 3.0, encoder: EncoderSpec | None = None) -> Network:
    """Random weights times `scale`: large enough that pixels depend on each other. Whoever changes it copies it."""
    torch.manual_seed(seed)
    model = make_network(spec, encoder).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def write_checkpoint(path: Path, model: Network, **header: Any) -> Path:
    """A checkpoint of a model, in a folder that is made; `header` takes the place of what its header says."""
    fields = {
        "spec": model.spec,
        "encoder": None if model.encoder is None else model.encoder.spec,
        "class_names": names_of(model.spec),
        "data": "none",
        "quantization": "nearest",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, model, Header(**{**fields, **header}))
    return path


def metadata_of(spec: ModelSpec, window: int | Schedule | None, names: tuple[str, ...] | None = None) -> EngineMetadata:
    """Metadata of a sampler, or of a step where window is None."""
    return EngineMetadata(
        role="step" if window is None else "sampler",
        spec=spec,
        class_names=names_of(spec) if names is None or spec.conditioning != "label" else names,
        **window_fields(window),
        parameters=1,
        checkpoint_digest="0" * 64,
        tools={},
    )


def add_metadata(graph: onnx.ModelProto, text: str) -> onnx.ModelProto:
    """The graph itself, which now carries metadata."""
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, text
    return graph


def bytes_of(graph: onnx.ModelProto, metadata: EngineMetadata) -> bytes:
    """The file of a graph and its metadata."""
    return bytes(add_metadata(graph, encode_metadata(metadata)).SerializeToString())


def engine_bytes_of(model: Network, window: int | Schedule | None, **change: Any) -> bytes:
    """An engine of role `sampler`, or `step` where window is None; `change` goes into its metadata."""
    graph = step_graph(model) if window is None else sampler_graph(model, window)
    return bytes_of(graph, msgspec.structs.replace(metadata_of(model.spec, window), **change))


def encoder_bytes_of(model: Network, **change: Any) -> bytes:
    """The encoder engine of an autoencoder; `change` goes into its metadata."""
    assert model.encoder is not None
    metadata = msgspec.structs.replace(metadata_of(model.spec, None), role="encoder", **change)
    return bytes_of(encoder_graph(model.encoder, model.spec), metadata)


@functools.cache
def engine_bytes(
    spec: ModelSpec, window: int | Schedule | None, seed: int = 0, names: tuple[str, ...] | None = None
) -> bytes:
    """The same of `model_of(spec, seed)`."""
    return engine_bytes_of(model_of(spec, seed), window, class_names=metadata_of(spec, window, names).class_names)
