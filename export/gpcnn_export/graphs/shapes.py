"""Shapes of all values of a graph whose batch is fixed, those inside loop bodies included.

ONNX's own shape inference leaves out what a Loop carries, since its shape might change. In our graphs it never does.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import numpy_helper

Types = dict[str, onnx.TypeProto]


def with_all_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model that declares the type and shape of every value, bodies included.

    Raises:
        ValueError: a shape stays open.
    """
    changed = True
    while changed:
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        changed = _fill(model.graph, {})
    if missing := next(open_values(model.graph), None):
        raise ValueError(f"the shape of '{missing}' is not known while the graph is built")
    return model


def open_values(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of values of a graph and its bodies whose shape is not all numbers."""
    types = _types(graph)
    for name in [*types, *(name for node in graph.node for name in node.output if name)]:
        if name not in types or not _is_complete(types[name]):
            yield name
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from open_values(attribute.g)


def _types(graph: onnx.GraphProto) -> Types:
    values = {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}
    for tensor in graph.initializer:
        values[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
    return values


def _is_complete(kind: onnx.TypeProto) -> bool:
    tensor = kind.tensor_type
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def _fill(graph: onnx.GraphProto, around: Types) -> bool:
    """Give the Loops of a graph and its bodies the types of what they carry and stack; whether anything was new."""
    types, changed = {**around, **_types(graph)}, False
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                if node.op_type == "Loop":
                    changed |= _fill_loop(graph, node, attribute.g, types)
                changed |= _fill(attribute.g, types)
    return changed


def _fill_loop(graph: onnx.GraphProto, node: onnx.NodeProto, body: onnx.GraphProto, types: Types) -> bool:
    changed, states = False, len(node.input) - 2
    for first, inside, last in zip(node.input[2:], body.input[2:], node.output[:states], strict=True):
        if first in types and _is_complete(types[first]):
            changed |= _declare(inside, types[first])
            changed |= _declare(_value(graph, last), types[first])
    stacked = list(zip(body.output[1 + states :], node.output[states:], strict=True))
    if stacked:
        length = next(numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == node.input[0])
        for inside, last in stacked:
            if _is_complete(inside.type):
                item = inside.type.tensor_type
                dims = [int(length), *(dim.dim_value for dim in item.shape.dim)]
                whole = onnx.helper.make_tensor_type_proto(item.elem_type, dims)
                changed |= _declare(_value(graph, last), whole)
    return changed


def _value(graph: onnx.GraphProto, name: str) -> onnx.ValueInfoProto:
    """What a graph declares of a value; it is added where there is nothing."""
    found = next((value for value in (*graph.output, *graph.value_info) if value.name == name), None)
    value: onnx.ValueInfoProto = graph.value_info.add(name=name) if found is None else found
    return value


def _declare(value: onnx.ValueInfoProto, kind: onnx.TypeProto) -> bool:
    if _is_complete(value.type):
        return False
    value.type.CopyFrom(kind)
    return True
