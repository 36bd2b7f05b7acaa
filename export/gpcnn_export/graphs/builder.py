"""A thin builder over `onnx.helper`: an operator is a method call, a Python array is a constant, a body is a graph.

A graph whose batch is fixed computes what only depends on the batch while it is built, and repeats bodies with Loop in
place of Scan: OpenVINO (2026.4) takes no Scan whose body reads values around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}

_KNOWN_OPS: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Mul": np.multiply,
    "Range": np.arange,
    "Squeeze": np.squeeze,
    "Reshape": np.reshape,
    "Concat": lambda *parts: np.concatenate(parts),
}
"""What is computed while a graph of a fixed batch is built; all of them are operators on shapes and indices."""


class Graph:
    """A graph under construction, or a body of one; a body sees the values of the graphs around it.

    Constants go to the outermost graph, once each, so that all bodies share them; matrices stay where they are used.
    """

    def __init__(self, name: str, parent: Graph | None = None, batch: int | None = None) -> None:
        """A graph inside `parent`, or the outermost one, for calls of `batch` images; None for any number."""
        self.name = name
        self.root: Graph = self if parent is None else parent.root
        self.trip = ""
        self.copies: dict[str, str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []
        if parent is None:
            self.batch = batch
            self.constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
            self.known: dict[str, Array] = {}
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
            self.root.known[name] = array
            self.root.initializers.append(numpy_helper.from_array(array, name))
        return self.root.constants[key]

    def matrix(self, value: Array) -> str:
        """Name of a new initializer of this very graph or body, for the second operand of a matrix product.

        ONNX Runtime (1.31) packs it for its kernels when it loads a model only if it belongs to the body that uses it,
        or to the graph right around that; else it does so anew in every call.
        """
        name = self.fresh("matrix")
        array = np.ascontiguousarray(value).reshape(value.shape)  # as in `constant`
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def op(self, op_type: str, *inputs: str | Array, **attributes: Any) -> str:
        """Append an operator with one output; returns the output's name."""
        return self.ops(op_type, 1, *inputs, **attributes)[0]

    def ops(self, op_type: str, outputs: int, *inputs: str | Array, **attributes: Any) -> list[str]:
        """Append an operator with several outputs; returns their names."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        known = self.root.known
        if self.root.batch is not None and op_type in _KNOWN_OPS and all(name in known for name in names):
            return [self.constant(_KNOWN_OPS[op_type](*(known[name] for name in names)))]
        names = [self._own(name) for name in names]
        results = [self.fresh(op_type.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op_type, names, results, **attributes))
        return results

    def _own(self, name: str) -> str:
        """Of a fixed batch, a body has its own copies of constants: ONNX's shape inference looks nowhere else."""
        if self.root.batch is None or self is self.root or name not in self.root.known:
            return name
        if name not in self.copies:
            self.copies[name] = self.matrix(self.root.known[name])
        return self.copies[name]

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

    def images(self, value: str) -> str:
        """N, int64 [1]: the first length of a value."""
        return self.op("Shape", value, start=0, end=1) if self.root.batch is None else self.int64(self.root.batch)

    def input(self, stem: str, dtype: str, shape: Sequence[Any] | None) -> str:
        """Declare an input of a body, under a fresh name."""
        name = self.fresh(stem)
        self.inputs.append(helper.make_tensor_value_info(name, ONNX_TYPES[dtype], shape))
        return name

    def output(self, value: str, dtype: str, shape: Sequence[Any] | None, name: str | None = None) -> None:
        """Declare an output; a body's input or an outer value passes through an Identity."""
        known = {output for node in self.nodes for output in node.output}
        taken = {output.name for output in self.outputs}
        last = self.nodes[-1] if self.nodes else None
        if name is not None and dtype == "uint8" and last is not None and list(last.output) == [value]:
            last.output[0] = value = name  # TensorRT has 8-bit numbers in outputs alone: none goes on to an Identity
        elif name is not None or value not in known or value in taken:
            target = name or self.fresh("output")
            self.nodes.append(helper.make_node("Identity", [value], [target]))
            value = target
        self.outputs.append(helper.make_tensor_value_info(value, ONNX_TYPES[dtype], shape))

    def body(self, name: str) -> Graph:
        """A new body inside this graph."""
        return Graph(self.fresh(name), self)

    def repeated(self, name: str) -> Graph:
        """A new body inside this graph, for `repeat`."""
        body = self.body(name)
        if self.root.batch is not None and self is self.root:
            body.trip = body.input("trip", "int64", [])
            body.output(body.input("condition", "bool", []), "bool", [])
        return body

    def item(self, stem: str, dtype: str, sequence: str) -> str:
        """What a repeated body gets of a sequence [length, …] in each run; called in the order of the sequences."""
        if self.trip:
            return self.op("Gather", sequence, self.trip, axis=0)
        return self.input(stem, dtype, None)

    def repeat(self, body: Graph, states: Sequence[str], sequences: Sequence[str], length: int) -> list[str]:
        """Run a repeated body for each item of some sequences.

        Args:
            body: its inputs are the states, then `item` of each sequence; its outputs the next states, then what is
                stacked.
            states: first values of what the body carries.
            sequences: [length, …] each.
            length: how often it runs.

        Returns:
            The last states, then what was stacked, each [length, …].
        """
        count = len(body.outputs)
        if body.trip:
            runs = self.constant(length, np.int64), self.constant(True, np.bool_)
            return self.ops("Loop", count - 1, *runs, *states, body=body.proto())
        captured = [] if self.root.batch is None else close(body, len(states))
        inputs, attributes = [*states, *captured, *sequences], {"num_scan_inputs": len(sequences)}
        results = self.ops("Scan", count + len(captured), *inputs, body=body.proto(), **attributes)
        return results[: len(states)] + results[len(states) + len(captured) :]

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


def close(body: Graph, states: int) -> list[str]:
    """Make a body of Scan read nothing around it: what it reads there comes in as further states, behind the first.

    Returns:
        Names of what the Scan must be given for them.
    """
    own = {value.name for value in body.inputs} | {tensor.name for tensor in body.initializers}
    own.update(name for node in body.nodes for name in _defined(node))
    read = dict.fromkeys(name for node in body.nodes for name in reads(node) if name and name not in own)
    inside = {name: body.fresh("carried") for name in read}
    for node in body.nodes:
        _rename(node, inside)
    passed = [body.fresh("passed") for _ in read]
    body.nodes += [
        helper.make_node("Identity", [name], [output]) for name, output in zip(inside.values(), passed, strict=True)
    ]
    # Shape inference adds their types.
    body.inputs[states:states] = [onnx.ValueInfoProto(name=name) for name in inside.values()]
    body.outputs[states:states] = [onnx.ValueInfoProto(name=name) for name in passed]
    return list(read)


def _defined(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node and what is in its bodies define."""
    yield from node.output
    for body in _bodies(node):
        yield from (value.name for value in (*body.input, *body.initializer))
        for inner in body.node:
            yield from _defined(inner)


def _rename(node: onnx.NodeProto, names: dict[str, str]) -> None:
    """Replace what a node and the nodes of its bodies read; in place."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for body in _bodies(node):
        for inner in body.node:
            _rename(inner, names)


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]


def _inputs(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that the nodes of a graph and of its bodies read."""
    for node in graph.node:
        yield from reads(node)


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node and the nodes of its bodies read."""
    yield from node.input
    for body in _bodies(node):
        yield from _inputs(body)
