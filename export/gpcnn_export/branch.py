"""One schedule out of an ONNX engine that has two: TensorRT builds loops, but no conditional around them.

Needs no torch, as what builds plans.
"""

from __future__ import annotations

import onnx
from onnx import helper


def first_schedule(model: onnx.ModelProto) -> onnx.ModelProto:
    """A sampler's graph without its window for large batches; the model itself, if it has none.

    The branch for few images takes the place of the `If`, and what only the condition needed goes.
    """
    chosen = next((node for node in model.graph.node if node.op_type == "If"), None)
    if chosen is None:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    branch = next(attribute.g for attribute in chosen.attribute if attribute.name == "else_branch")
    nodes = [node for node in graph.node if node.op_type != "If"]
    nodes = nodes[: list(graph.node).index(chosen)] + list(branch.node) + nodes[list(graph.node).index(chosen) :]
    named = dict(zip((value.name for value in branch.output), chosen.output, strict=True))
    place = next(k for k, node in enumerate(nodes) if set(node.input) & set(chosen.output))
    nodes[place:place] = [helper.make_node("Identity", [inner], [outer]) for inner, outer in named.items()]
    needed = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_reads(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    tensors = [tensor for tensor in [*graph.initializer, *branch.initializer] if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    onnx.checker.check_model(result, full_check=True)
    return result


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node and its bodies read."""
    found = set(node.input)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for inner in attribute.g.node:
                found |= _reads(inner)
    return found
