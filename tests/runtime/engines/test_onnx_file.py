"""Weights in other files are found wherever they hide, and bytes that are no ONNX file never raise anything else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, TensorProto, helper
from small_engines import LABELLED, PLAIN, Make, engine_bytes

from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.engines.load import load_engine
from gpcnn_runtime.engines.onnx_file import MalformedError, has_external_data


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of fewer than 2**14 bytes, its tag as long as its number needs."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int, longer: int = 0) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    for _ in range(longer):
        digits[-1] |= 0x80
        digits.append(0)
    return bytes(digits)


KEY, VALUE = field(1, b"location"), field(2, b"/etc/hostname")
EXTERNAL = {
    "key first": field(13, KEY + VALUE),
    "value first": field(13, VALUE + KEY),
    "an unknown field between": field(13, KEY + field(9, b"") + VALUE),
    "a longer tag": varint(13 << 3 | 2, longer=2) + field(13, KEY + VALUE)[1:],
    "a longer length": b"\x6a" + varint(len(KEY + VALUE), longer=1) + KEY + VALUE,
    "data_location": b"\x70\x01",
    "data_location, 64 bits cut to 32": b"\x70" + varint((1 << 32) + 1),
    "after the weights": field(9, b"\0" * 300) + field(13, VALUE + KEY),
}


def attribute(name: int) -> Callable[[bytes], bytes]:
    return lambda inner: field(1, field(5, field(name, inner)))


# From a tensor's bytes to those of a graph that holds it.
PLACES: dict[str, Callable[[bytes], bytes]] = {
    "initializer": lambda tensor: field(5, tensor),
    "sparse values": lambda tensor: field(15, field(1, tensor)),
    "sparse indices": lambda tensor: field(15, field(2, tensor)),
    "constant": attribute(5),
    "constants": attribute(10),
    "sparse constant": lambda tensor: attribute(22)(field(1, tensor)),
    "sparse constants": lambda tensor: attribute(23)(field(1, tensor)),
}
BODIES: dict[str, Callable[[bytes], bytes]] = {"graph": lambda graph: graph, "body": attribute(6), "all": attribute(11)}


@pytest.mark.parametrize("external", EXTERNAL.values(), ids=EXTERNAL)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_every_place_and_encoding(
    external: bytes, place: Callable[[bytes], bytes], body: Callable[[bytes], bytes]
) -> None:
    graph = body(body(place(external)))
    assert has_external_data(b"\x08\x09" + field(7, graph))
    assert has_external_data(field(20, field(1, graph)))
    # The same bytes in a name are a name.
    assert not has_external_data(b"\x08\x09" + field(2, graph))
    assert not has_external_data(field(7, body(body(place(field(8, external))))))


def test_functions() -> None:
    tensor = EXTERNAL["value first"]
    assert has_external_data(field(25, field(7, field(5, field(5, tensor)))))
    assert has_external_data(field(25, field(11, field(5, tensor))))


def with_external(model: ModelProto, graph: GraphProto) -> bytes:
    tensor = helper.make_tensor("outside", TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/hostname"
    graph.initializer.append(tensor)
    return bytes(model.SerializeToString())


def bodies(graph: GraphProto) -> list[GraphProto]:
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return inner + [body for graph in inner for body in bodies(graph)]


def test_loop_and_scan_bodies_of_a_real_engine(sampler_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    count = len(bodies(onnx.load(sampler_path).graph))
    assert count
    for k in range(count):
        model = onnx.load(sampler_path)
        content = with_external(model, bodies(model.graph)[k])
        swapped = content.replace(KEY + VALUE, VALUE + KEY)
        assert swapped != content
        for bad in (content, swapped):
            path.write_bytes(bad)
            with pytest.raises(EngineError, match="keeps weights in other files"):
                load_engine(path)


@pytest.mark.parametrize("spec", [LABELLED, PLAIN])
@pytest.mark.parametrize("window", [None, 2])
def test_our_engines_are_self_contained(make: Make, spec: ModelSpec, window: int | None) -> None:
    assert not has_external_data(make(spec, window).read_bytes())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x3a", "ends inside a field"),
        (b"\x3a\x05\x0a", "longer than what holds it"),
        (b"\x3a\x02\x0a\x05" + b"\x08\0" * 9, "longer than what holds it"),
        (b"\x02\x00", "no valid number"),
        (b"\x0b\x0c", "no valid type"),
        (b"\x08" + b"\xff" * 11, "too long"),
        (b"\x0a\x06\0\0ORTM" + b"\0" * 9, "own format"),
    ],
)
def test_malformed(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match=reason):
        has_external_data(content)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=f"truncated, damaged or foreign .*{reason}"):
        load_engine(path)


def test_nesting_is_bounded() -> None:
    graph = b""
    for _ in range(40):
        graph = attribute(6)(graph)
    with pytest.raises(MalformedError, match="nested too deeply"):
        has_external_data(field(7, graph))


def test_every_truncation(sampler_path: Path) -> None:
    content = sampler_path.read_bytes()
    for length in range(0, len(content), 37):
        with contextlib.suppress(MalformedError):
            assert not has_external_data(content[:length])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    with contextlib.suppress(MalformedError):
        has_external_data(content)


def test_it_is_fast() -> None:
    content = engine_bytes(ModelSpec(height=28, width=28, features=64, layers=12), 4)
    assert len(content) > 1_000_000

    def seconds() -> float:
        begin = time.process_time()
        has_external_data(content)
        return time.process_time() - begin

    assert min(seconds() for _ in range(5)) < 0.02
