"""The inputs and outputs of `tests/contract/ports.json`: those of `gpcnn_deploy.ports`, and of the graphs."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest
from small_engines import EMBEDDED, encoder_bytes_of, engine_bytes, model_of

from gpcnn_deploy import ports
from gpcnn_deploy.spec import EncoderSpec, ModelSpec

CONTRACT = json.loads((Path(__file__).parents[1] / "contract" / "ports.json").read_text())
ENGINES = {f"{engine['role']}, {engine['conditioning']}": engine for engine in CONTRACT["engines"]}
# Lengths that differ from each other, so that no symbol can stand for another.
GREY = msgspec.structs.replace(EMBEDDED, height=6, width=7, conditioning="none", conditioning_size=0)
SYMBOLS = {1: "C", 3: "C", 6: "H", 7: "W", 5: "E"}


def spec_of(engine: dict[str, Any], channels: int) -> ModelSpec:
    size = 0 if engine["conditioning"] == "none" else 5
    return msgspec.structs.replace(GREY, channels=channels, conditioning=engine["conditioning"], conditioning_size=size)


def written(name: str, dtype: str, shape: tuple[Any, ...]) -> dict[str, Any]:
    """A port as the contract writes it."""
    return {"name": name, "dtype": dtype, "shape": [SYMBOLS.get(length, length) for length in shape]}


def test_every_role_and_conditioning_is_there() -> None:
    assert CONTRACT["version"] == 1
    drawing = [
        f"{role}, {kind}" for role, kind in itertools.product(("sampler", "step"), ("none", "label", "embedding"))
    ]
    assert list(ENGINES) == [*drawing, "encoder, embedding"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ENGINES)
def test_ports_are_those_of_the_contract(name: str, channels: int) -> None:
    engine = ENGINES[name]
    for side, table in (("inputs", ports.inputs), ("outputs", ports.outputs)):
        found = table(engine["role"], spec_of(engine, channels))
        assert [written(port, *found[port][:2]) for port in sorted(found)] == engine[side]


@pytest.mark.parametrize("name", ENGINES)
def test_graphs_have_the_ports_of_the_contract(name: str) -> None:
    engine = ENGINES[name]
    spec = spec_of(engine, 3)
    if engine["role"] == "encoder":
        content = encoder_bytes_of(model_of(spec, encoder=EncoderSpec(features=(2, 3, 4))))
    else:
        content = engine_bytes(spec, 2 if engine["role"] == "sampler" else None)
    graph = onnx.load_from_string(content).graph
    for side, values in (("inputs", graph.input), ("outputs", graph.output)):
        found = [
            written(
                value.name,
                onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                tuple(axis.dim_value or "N" for axis in value.type.tensor_type.shape.dim),
            )
            for value in sorted(values, key=lambda value: value.name)
        ]
        assert found == engine[side]
