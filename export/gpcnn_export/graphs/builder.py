"""A thin builder over `onnx.helper`: an operator is a method call, a Python array is a constant, a body is a `with`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from gpcnn_deploy.ports import Ports

OPSET = 18
IR_VERSION = 9  # what onnxruntime 1.16 and later read

Array = npt.NDArray[Any]

ONNX_TYPES: dict[str, int] = {
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


class Graph:
    """A graph under construction, or a body of one; a body sees the values of the graphs around it.

    Constants go to the outermost graph, once each, so that all bodies share them; matrices stay where they are used.
    """

    def __init__(self, name: str, parent: Graph | None = None) -> None:
        self.name = name
        self.root: Graph = self if parent is None else parent.root
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []
        if parent is None:
            self.constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
            self.counts: dict[str, int] = {}

    def fresh(self, stem: str) -> str:
        """A name that no other value of the whole model has."""
        count = self.root.counts.get(stem, 0)
        self.root.counts[stem] = count + 1
        return f"{stem}_{count}"

    def constant(self, value: Array | Sequence[int] | float, dtype: type[Any] | None = None) -> str:
        """Name of an initializer with this value; equal values share one."""
        array = np.ascontiguousarray(np.asarray(value, dtype))  # of a scalar it makes [1]: undone by reshape
        array = array.reshape(np.asarray(value).shape)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.root.constants:
            name = self.fresh("constant")
            self.root.constants[key] = name
            self.root.initializers.append(numpy_helper.from_array(array, name))
        return self.root.constants[key]

    def matrix(self, value: Array) -> str:
        """Name of a new initializer of this very graph or body, for the second operand of a matrix product.

        ONNX Runtime (1.31) packs it for its kernels when it loads a model only if it belongs to the body that uses it,
        or to the graph right around that; else it does so anew in every call.
        """
        name = self.fresh("matrix")
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, op_type: str, *inputs: str | Array, **attributes: Any) -> str:
        """Append an operator with one output; returns the output's name."""
        return self.ops(op_type, 1, *inputs, **attributes)[0]

    def ops(self, op_type: str, outputs: int, *inputs: str | Array, **attributes: Any) -> list[str]:
        """Append an operator with several outputs; returns their names."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        results = [self.fresh(op_type.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op_type, names, results, **attributes))
        return results

    def int64(self, *values: int) -> str:
        """A constant int64 vector."""
        return self.constant(np.array(values, np.int64))

    def reshape(self, value: str, *dims: int | str) -> str:
        """Reshape; a dimension is a number, -1, or the name of an int64 [1] value."""
        if all(isinstance(dim, int) for dim in dims):
            return self.op("Reshape", value, self.int64(*(int(dim) for dim in dims)))
        parts = [dim if isinstance(dim, str) else self.int64(dim) for dim in dims]
        return self.op("Reshape", value, self.op("Concat", *parts, axis=0))

    def zeros(self, *dims: int | str) -> str:
        """Zeros float32 of a shape given as in `reshape`."""
        parts = [dim if isinstance(dim, str) else self.int64(dim) for dim in dims]
        shape = self.op("Concat", *parts, axis=0)
        zero = numpy_helper.from_array(np.zeros(1, np.float32))
        return self.op("ConstantOfShape", shape, value=zero)

    def slice(self, value: str, axis: int, start: int | str, stop: int | str) -> str:
        """Slice along one axis; a bound is a number or the name of an int64 [1] value."""
        bounds = [bound if isinstance(bound, str) else self.int64(bound) for bound in (start, stop)]
        return self.op("Slice", value, *bounds, self.int64(axis))

    def take(self, ports: Ports) -> None:
        """Declare the inputs of the outermost graph, which keep their names."""
        for name, port in ports.items():
            self.inputs.append(helper.make_tensor_value_info(name, ONNX_TYPES[port.dtype], port.shape))

    def input(self, stem: str, dtype: str, shape: Sequence[Any] | None) -> str:
        """Declare an input of a body, under a fresh name."""
        name = self.fresh(stem)
        self.inputs.append(helper.make_tensor_value_info(name, ONNX_TYPES[dtype], shape))
        return name

    def output(self, value: str, dtype: str, shape: Sequence[Any] | None, name: str | None = None) -> None:
        """Declare an output; a body's input or an outer value passes through an Identity."""
        known = {output for node in self.nodes for output in node.output}
        taken = {output.name for output in self.outputs}
        if name is not None or value not in known or value in taken:
            target = name or self.fresh("output")
            self.nodes.append(helper.make_node("Identity", [value], [target]))
            value = target
        self.outputs.append(helper.make_tensor_value_info(value, ONNX_TYPES[dtype], shape))

    def body(self, name: str) -> Graph:
        """A new body inside this graph."""
        return Graph(self.fresh(name), self)

    def proto(self) -> onnx.GraphProto:
        """This graph as ONNX, with the initializers that it or a body in it uses."""
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs)
        used = set(_inputs(graph))
        graph.initializer.extend(tensor for tensor in self.initializers if tensor.name in used)
        return graph

    def model(self) -> onnx.ModelProto:
        """The whole model, without metadata."""
        model = helper.make_model(self.proto(), opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        model.producer_name, model.producer_version = "gpcnn-deploy", ""
        return model


def _inputs(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that the nodes of a graph and of its bodies read."""
    for node in graph.node:
        yield from reads(node)


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node and the nodes of its bodies read."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield from _inputs(attribute.g)
