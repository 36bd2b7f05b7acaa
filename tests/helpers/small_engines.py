"""Small engines, exported from random weights: every role and schedule of the same model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import onnx
import torch

from gpcnn_deploy.metadata import METADATA_KEY, EngineMetadata, encode_metadata
from gpcnn_deploy.schedule import Schedule, window_fields
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.graphs.sampler import sampler_graph
from gpcnn_export.graphs.step import step_graph
from gpcnn_training.model import GatedPixelCNN

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
Make = Callable[..., Path]
NAMES = ("boot", "3", "bag, red")
PLAIN = ModelSpec(height=4, width=6, channels=3, levels=7, features=4, layers=2, head_features=6)
EMBEDDED = ModelSpec(
    height=4, width=4, features=4, layers=2, head_features=6, conditioning="embedding", conditioning_size=5
)


@functools.cache
def model_of(spec: ModelSpec, seed: int = 0) -> GatedPixelCNN:
    """Random weights, large enough that pixels depend on each other."""
    torch.manual_seed(seed)
    model = GatedPixelCNN(spec).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def metadata_of(spec: ModelSpec, window: int | Schedule | None, names: tuple[str, ...] = NAMES) -> EngineMetadata:
    return EngineMetadata(
        role="step" if window is None else "sampler",
        spec=spec,
        class_names=names if spec.conditioning == "label" else (),
        **window_fields(window),
        parameters=1,
        checkpoint_digest="0" * 64,
        tools={},
    )


def add_metadata(graph: onnx.ModelProto, text: str) -> onnx.ModelProto:
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, text
    return graph


def engine_bytes(
    spec: ModelSpec, window: int | Schedule | None, seed: int = 0, names: tuple[str, ...] = NAMES
) -> bytes:
    """An engine of role `sampler`, or `step` where window is None."""
    model = model_of(spec, seed)
    graph = step_graph(model) if window is None else sampler_graph(model, window)
    add_metadata(graph, encode_metadata(metadata_of(spec, window, names)))
    return bytes(graph.SerializeToString())
