"""An ONNX engine with its network in half precision; head and sampling stay in single precision.

Every convolution and matrix product of the network reads fp16 and its result goes back to fp32, so residuals, gates and
the skip sum add up in fp32, whichever loop body they are in; TensorRT fuses the casts into its kernels. The head is
what lies behind the first Relu: no gate has one (equation 2 of the paper has tanh and sigmoid). A VQ-VAE's decoder,
which reads the image that was drawn, stays in fp32, too: it runs once.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gpcnn_deploy.errors import EngineError

MATRIX_OPS = frozenset({"Conv", "MatMul", "Gemm"})
LARGEST = float(np.finfo(np.float16).max)


def half_precision(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Rewrite a copy of a `step` or `sampler` graph; its inputs and outputs keep their types.

    Returns:
        The new model and the number of matrix products that are now in fp16.

    Raises:
        EngineError: a weight does not fit fp16, or the graph has no network to convert.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    weights = {tensor.name: tensor for graph in _graphs(result.graph) for tensor in graph.initializer}
    rewriter = _Rewriter(weights)
    rewriter.rewrite(result.graph)
    if not rewriter.converted:
        raise EngineError("the graph has no convolution or matrix product in front of its head: export it anew")
    for graph in _graphs(result.graph):
        rewriter.drop_unused(graph, result.graph)
    result.graph.initializer.extend(rewriter.halves.values())
    onnx.checker.check_model(result, full_check=True)
    return result, rewriter.converted


class _Rewriter:
    def __init__(self, weights: dict[str, onnx.TensorProto]) -> None:
        self.weights = weights
        self.halves: dict[str, onnx.TensorProto] = {}
        self.replaced: set[str] = set()
        self.converted = 0

    def rewrite(self, graph: onnx.GraphProto) -> None:
        """Convert one scope, then the loop bodies in it."""
        chosen = _network(graph)
        nodes: list[onnx.NodeProto] = []
        casts: dict[str, str] = {}
        for index, node in enumerate(graph.node):
            for body in _bodies(node):
                self.rewrite(body)
            if index in chosen and node.input[1] in self.weights:
                nodes += self._half(node, casts)
            else:
                nodes.append(node)
        del graph.node[:]
        graph.node.extend(nodes)

    def _half(self, node: onnx.NodeProto, casts: dict[str, str]) -> list[onnx.NodeProto]:
        self.converted += 1
        nodes: list[onnx.NodeProto] = []
        x, weight, *bias = node.input
        if x not in casts:
            casts[x] = f"{x}_half_{self.converted}"
            nodes.append(helper.make_node("Cast", [x], [casts[x]], to=onnx.TensorProto.FLOAT16))
        output, operands = node.output[0], [casts[x], weight]
        product = onnx.NodeProto()
        product.CopyFrom(node)
        if node.op_type == "Conv":
            operands = [casts[x], *(self._weight(name) for name in (weight, *bias))]
            bias = []
        elif node.op_type == "Gemm":
            attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            transposed = attributes.pop("transB", 0) == 1
            if any(value != {"alpha": 1.0, "beta": 1.0}.get(name, 0) for name, value in attributes.items()):
                raise EngineError(f"Gemm '{node.name}' is more than a product and a sum: export the engine anew")
            operands[1] = self._weight(weight, transposed)
            product = onnx.NodeProto(op_type="MatMul", name=node.name)
        else:
            operands[1] = self._weight(weight)
        del product.input[:], product.output[:]
        product.input.extend(operands)
        product.output.append(f"{output}_half")
        nodes.append(product)
        single = f"{output}_single" if bias else output
        nodes.append(helper.make_node("Cast", [f"{output}_half"], [single], to=onnx.TensorProto.FLOAT))
        if bias:
            nodes.append(helper.make_node("Add", [single, bias[0]], [output]))
        return nodes

    def _weight(self, name: str, transposed: bool = False) -> str:
        half = f"{name}_half_transposed" if transposed else f"{name}_half"
        if half not in self.halves:
            values = numpy_helper.to_array(self.weights[name])
            if values.dtype != np.float32 or not np.all(np.abs(values) <= LARGEST):
                raise EngineError(f"weight '{name}' does not fit fp16 (largest {np.abs(values).max()}): use fp32")
            values = values.astype(np.float16)
            self.halves[half] = numpy_helper.from_array(values.T.copy() if transposed else values, half)
        self.replaced.add(name)
        return half

    def drop_unused(self, graph: onnx.GraphProto, root: onnx.GraphProto) -> None:
        """Remove the fp32 copies of weights that nothing reads any more."""
        used = {name for scope in _graphs(root) for node in scope.node for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name not in self.replaced or tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]


def _graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    return [graph, *(inner for node in graph.node for body in _bodies(node) for inner in _graphs(body))]


def _network(graph: onnx.GraphProto) -> set[int]:
    """Indices of the matrix products in front of the head: those that lead to a first Relu; all, without a Relu."""
    # Values that a Relu leads to, or the image that was drawn.
    behind = {name for node in graph.node if "image" in node.output for name in node.input}
    drawn = set(behind)
    decoder: set[int] = set()
    first: list[int] = []
    for index, node in enumerate(graph.node):
        after = any(name in behind for name in node.input)
        if any(name in drawn for name in node.input):
            decoder.add(index)
            drawn.update(node.output)
        if node.op_type == "Relu" and not after:
            first.append(index)
        if node.op_type == "Relu" or after:
            behind.update(node.output)
    matrix = {index for index, node in enumerate(graph.node) if node.op_type in MATRIX_OPS} - decoder
    if not first:
        return matrix
    producer = {name: index for index, node in enumerate(graph.node) for name in node.output}
    reached: set[int] = set()
    waiting = list(first)
    while waiting:
        index = waiting.pop()
        if index not in reached:
            reached.add(index)
            waiting += [producer[name] for name in graph.node[index].input if name in producer]
    return matrix & reached
