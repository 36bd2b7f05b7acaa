"""One schedule out of an ONNX engine that has two: TensorRT builds loops, but no conditional around them.

Needs no torch, as what builds plans.
"""

from __future__ import annotations

import onnx
from onnx import helper

from gpcnn_deploy.errors import EngineError
from gpcnn_export.graphs.builder import reads


def first_schedule(model: onnx.ModelProto, source: str) -> onnx.ModelProto:
    """A sampler's graph without its window for large batches; the model itself, if it has none.

    The branch for few images takes the place of the `If`, and what only the condition needed goes.

    Raises:
        EngineError: `source`, a name for messages, has no such branch.
    """
    place = next((k for k, node in enumerate(model.graph.node) if node.op_type == "If"), None)
    if place is None:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    chosen = graph.node[place]
    branch = next((attribute.g for attribute in chosen.attribute if attribute.name == "else_branch"), None)
    if branch is None or len(branch.output) != len(chosen.output):
        raise EngineError(f"the schedule for few images is missing or damaged in {source}: export it anew")
    named = zip((value.name for value in branch.output), chosen.output, strict=True)
    renamed = [helper.make_node("Identity", [inner], [outer]) for inner, outer in named]
    nodes = [*graph.node[:place], *branch.node, *renamed, *graph.node[place + 1 :]]
    needed = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(reads(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    tensors = [tensor for tensor in [*graph.initializer, *branch.initializer] if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    onnx.checker.check_model(result, full_check=True)
    return result
