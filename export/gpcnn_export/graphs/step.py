"""The `step` role: the single-step network over the whole image as one ONNX graph, without control flow.

One evaluation is one Jacobi step: every sub-pixel is drawn from its conditional given the guess `image`. The graph is
what `torch.onnx` makes of the very modules that were trained.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import Tensor, nn

from gpcnn_deploy import ports
from gpcnn_deploy.metadata import MAX_BATCH
from gpcnn_export.graphs.builder import OPSET
from gpcnn_export.graphs.shapes import with_all_shapes
from gpcnn_training.conditionals import conditionals
from gpcnn_training.network import Network


class StepNetwork(nn.Module):
    """One Jacobi step around a Gated PixelCNN; shapes as in `forward`."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        image: Tensor,
        noise: Tensor,
        known: Tensor,
        mask: Tensor,
        temperature: Tensor,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw every sub-pixel once.

        Args:
            image: int32 [N, C, H, W], the guess.
            noise: float32 [N, C, H, W] in [0, 1).
            known: int32 [N, C, H, W], kept where `mask` is true.
            mask: bool [N, C, H, W].
            temperature: float32 scalar, > 0.
            condition: label int32 [N], embedding float32 [N, E], map int32 or float32 [N, M, h, w], or None.

        Returns:
            image_next int32 [N, C, H, W]; log_prob float32 [N, C, H, W], nats, of `image` under the model itself;
            changed int32 [N], sub-pixels of each image that differ between `image` and `image_next`.
        """
        given = conditionals(self.model.spec, self.model(image, condition), image)
        image_next = torch.where(mask, known, given.inverse_cdf(noise, temperature))
        changed = (image_next != image).flatten(1).sum(1, dtype=torch.int32)
        return image_next, given.log_probability(image), changed


def step_graph(model: Network, batch: int | None = None) -> onnx.ModelProto:
    """Export the single-step network, with no trace of where it was made.

    Args:
        model: a trained Gated PixelCNN.
        batch: images of every call, for a graph in which all shapes are numbers; None for any number.

    Returns:
        A model with the inputs and outputs that `gpcnn_deploy.ports` gives a step. Metadata is not set yet.
    """
    spec = model.spec
    n = batch or 2  # of an open batch, torch.export takes 0 and 1 for constants
    shape = (n, *spec.image_shape)
    image = torch.zeros(shape, dtype=torch.int32)
    arguments = (
        image,
        torch.full(shape, 0.5),
        image.clone(),
        torch.zeros(shape, dtype=torch.bool),
        torch.tensor(1.0),
    )
    open_batch = torch.export.Dim("N", min=1, max=MAX_BATCH)
    shapes: dict[str, dict[int, torch.export.Dim] | None] = {
        name: {0: open_batch} for name in ("image", "noise", "known", "mask")
    }
    shapes["temperature"] = None
    names = ["image", "noise", "known", "mask", "temperature"]
    keywords: dict[str, Tensor] = {}
    if spec.conditioning != "none":
        names.append(spec.conditioning)
        shapes["condition"] = {0: open_batch}
        port = ports.inputs("step", spec, n)[spec.conditioning]
        lengths = [n, *(int(length) for length in port.shape[1:])]
        keywords["condition"] = torch.zeros(lengths, dtype=getattr(torch, port.dtype))
    network = StepNetwork(model).eval()
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            arguments,
            kwargs=keywords,
            input_names=names,
            output_names=list(ports.outputs("step", spec)),
            dynamic_shapes=shapes if batch is None else None,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    return without_traces(graph) if batch is None else with_all_shapes(without_traces(graph))


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what an exporter notes about its machine (source paths, stack traces, doc strings); in place."""
    del model.metadata_props[:]
    model.doc_string = ""
    model.producer_name, model.producer_version = "gpcnn-deploy", ""
    _strip_graph(model.graph)
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        for node in function.node:
            _strip_node(node)
    return model


def _strip_graph(graph: onnx.GraphProto) -> None:
    graph.doc_string = ""
    del graph.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    for node in graph.node:
        _strip_node(node)


def _strip_node(node: onnx.NodeProto) -> None:
    node.doc_string = ""
    del node.metadata_props[:]
    for attribute in node.attribute:
        attribute.doc_string = ""
        if attribute.type == onnx.AttributeProto.GRAPH:
            _strip_graph(attribute.g)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter narrates on stdout, through loggers and through warnings; none of it is for our users."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
