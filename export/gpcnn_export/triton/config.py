"""`config.pbtxt`: what Triton must know of a model, in protobuf's text format."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

import gpcnn_deploy
from gpcnn_deploy.metadata import EngineMetadata

QUEUE_DELAY: Final = 1000
"""Microseconds that a request waits for others to share its batch."""


class _Tensor(NamedTuple):
    name: str
    kind: str
    dims: tuple[int, ...]


def config_text(metadata: EngineMetadata, name: str, max_batch: int) -> str:
    """The file of a model. Every tensor has the batch in front, which Triton adds to `dims`.

    Args:
        metadata: of the model.
        name: of the model, and of its folder.
        max_batch: most images of a batch, and so of a request.
    """
    image = metadata.spec.image_shape
    conditions = {
        "none": [],
        "label": [_Tensor("label", "TYPE_INT32", (1,))],
        "embedding": [_Tensor("embedding", "TYPE_FP32", (metadata.spec.conditioning_size,))],
        "map": [_Tensor("map", "TYPE_INT32" if metadata.spec.map_categories else "TYPE_FP32", metadata.spec.map_shape)],
    }[metadata.spec.conditioning]
    inputs = [
        *conditions,
        _Tensor("seed", "TYPE_UINT64", (1,)),
        _Tensor("position", "TYPE_UINT64", (1,)),
        _Tensor("temperature", "TYPE_FP32", (1,)),
        _Tensor("known", "TYPE_INT32", image),
        _Tensor("mask", "TYPE_BOOL", image),
    ]
    outputs = [_Tensor("image", "TYPE_INT32", image), _Tensor("log_prob", "TYPE_FP32", image)]
    if metadata.vqvae is not None:  # `image` is of codes
        outputs.append(_Tensor("picture", "TYPE_UINT8", metadata.vqvae.image_shape))
    parameters = {"levels": str(metadata.spec.levels)}
    if metadata.class_names:
        parameters["class_names"] = json.dumps(metadata.class_names)
    lines = [
        f"# Written by gpcnn-export --format triton, gpcnn-deploy {gpcnn_deploy.__version__}.",
        "# Its page docs/serving.md says what the inputs and outputs mean, and what you may change here.",
        f"name: {_quoted(name)}",
        'backend: "python"',
        f"max_batch_size: {max_batch}",
        *_tensors("input", inputs, optional=True),
        *_tensors("output", outputs, optional=False),
        f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY} }}",
        "# One instance, whose threads share each batch. A model.plan beside model.py runs on the GPU all the same.",
        "instance_group [ { kind: KIND_CPU count: 1 } ]",
        *(
            f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
            for key, value in parameters.items()
        ),
        "# Without this line, the model draws with all cores that the server may use:",
        '# parameters { key: "threads" value { string_value: "2" } }',
    ]
    return "\n".join(lines) + "\n"


def _tensors(field: str, tensors: list[_Tensor], optional: bool) -> list[str]:
    more = " optional: true" if optional else ""
    told = [
        f"  {{ name: {_quoted(name)} data_type: {kind} dims: [ {', '.join(map(str, dims))} ]{more} }}"
        for name, kind, dims in tensors
    ]
    return [f"{field} [", ",\n".join(told), "]"]


def _quoted(text: str) -> str:
    """A string of protobuf's text format. What JSON escapes, it knows too, but for `\\u`, which ASCII has not."""
    assert text.isascii()
    return json.dumps(text)
