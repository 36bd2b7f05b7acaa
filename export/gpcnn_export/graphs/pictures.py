"""A VQ-VAE's encoder and decoder as ONNX: pictures → codes, and codes → pictures, 8-bit on the outside.

Shape legend as in `gpcnn_training.vqvae_network`.
"""

from __future__ import annotations

import numpy as np
import onnx
from torch import Tensor, nn

from gpcnn_deploy import ports
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.graphs.builder import Graph
from gpcnn_export.graphs.shapes import with_all_shapes
from gpcnn_export.graphs.weights import array
from gpcnn_training.vqvae_network import ResidualBlock, Vqvae


def decoded(g: Graph, network: Vqvae, codes: str) -> str:
    """Add the decoder.

    Args:
        g: the graph.
        network: the VQ-VAE.
        codes: name of int32 [N, 1, h, w], of two levels of codes the sheet.

    Returns:
        the name of the pictures, uint8 [N, C, H, W]: rounded as `as_pixels` does.
    """
    (rows, columns), n = network.spec.bottom, -1 if g.root.batch is None else g.root.batch
    above = network.spec.grid[0] - rows
    bottom = codes if not above else g.slice(codes, 2, above, above + rows)
    vectors = _vectors(g, g.reshape(bottom, n, rows, columns), network.codebook)
    if above:
        top = g.reshape(g.slice(codes, 2, 0, above), n, rows // 2, columns // 2)
        vectors = g.op("Concat", _from_top(g, network, top), vectors, axis=1)
    x = _blocks(g, _conv(g, vectors, network.decoder.first), network.decoder.blocks)
    for conv in network.decoder.up:
        x = _doubled(g, g.op("Relu", x), conv)
    scaled = g.op("Mul", g.op("Add", x, np.array(1, np.float32)), np.array(127.5, np.float32))
    cut = g.op("Clip", g.op("Round", scaled), np.array(0, np.float32), np.array(255, np.float32))
    return g.op("Cast", cut, to=onnx.TensorProto.UINT8)


def picture_decoder_graph(network: Vqvae, prior: ModelSpec, batch: int | None = None) -> onnx.ModelProto:
    """The codebook and decoder of a VQ-VAE.

    Args:
        network: the VQ-VAE.
        prior: over its codes.
        batch: pictures of every call, for a graph in which all shapes are numbers; None for any number.

    Returns:
        A model with input codes int32 [N, 1, h, w] and output picture uint8 [N, C, H, W]. Metadata is not set yet.
    """
    g = Graph("decoder", batch=batch)
    g.take(ports.inputs("decoder", prior, batch, network.spec))
    picture = ports.outputs("decoder", prior, batch, network.spec)["picture"]
    g.output(decoded(g, network, "codes"), picture.dtype, picture.shape, "picture")
    return g.model() if batch is None else with_all_shapes(g.model())


def picture_encoder_graph(network: Vqvae, prior: ModelSpec) -> onnx.ModelProto:
    """The encoder of a VQ-VAE, batch dynamic.

    Returns:
        A model with input picture uint8 [N, C, H, W] and output codes int32 [N, 1, h, w], of two levels the sheet.
        Metadata is not set yet.
    """
    g, spec = Graph("encoder"), network.spec
    g.take(ports.inputs("encoder", prior, vqvae=spec))
    numbers = g.op("Cast", "picture", to=onnx.TensorProto.FLOAT)
    x = g.op("Sub", g.op("Mul", numbers, np.array(2 / 255, np.float32)), np.array(1, np.float32))
    for conv in network.encoder.down:
        assert isinstance(conv, nn.Conv2d)
        x = g.op("Relu", _conv(g, x, conv))
    x = _blocks(g, _conv(g, x, network.encoder.first), network.encoder.blocks)
    features, (h, w) = g.op("Relu", x), spec.bottom
    if network.encoder.top is None:
        codes = g.reshape(_nearest(g, _conv(g, features, network.encoder.out), network.codebook), -1, 1, h, w)
    else:
        above = network.encoder.top
        x = _blocks(g, _conv(g, features, above.down), above.blocks)
        top = _nearest(g, _conv(g, g.op("Relu", x), above.out), network.top_codebook)
        u = _from_top(g, network, g.reshape(top, -1, h // 2, w // 2))
        bottom = _nearest(g, _conv(g, g.op("Concat", features, u, axis=1), network.encoder.out), network.codebook)
        sheet = [g.reshape(top, -1, 1, spec.grid[0] - h, w), g.reshape(bottom, -1, 1, h, w)]
        codes = g.op("Concat", *sheet, axis=2)
    for name, port in ports.outputs("encoder", prior, vqvae=spec).items():
        g.output(codes, port.dtype, port.shape, name)
    return g.model()


def _nearest(g: Graph, vectors: str, codebook_KD: Tensor) -> str:
    """Codes int32 [N · h · w] of vectors [N, D, h, w]."""
    codebook = array(codebook_KD)
    flat = g.reshape(g.op("Transpose", vectors, perm=[0, 2, 3, 1]), -1, codebook.shape[1])
    # |z - e|² without |z|², which all codes share.
    products = g.op("MatMul", flat, g.matrix(np.ascontiguousarray(-2 * codebook.T)))
    distances = g.op("Add", products, (codebook * codebook).sum(1))
    return g.op("Cast", g.op("ArgMin", distances, axis=1, keepdims=0), to=onnx.TensorProto.INT32)


def _vectors(g: Graph, codes: str, codebook: Tensor) -> str:
    """Vectors [N, D, h, w] of codes int32 [N, h, w]."""
    return g.op("Transpose", g.op("Gather", array(codebook), codes, axis=0), perm=[0, 3, 1, 2])


def _from_top(g: Graph, network: Vqvae, codes: str) -> str:
    """What both coders know of the top codes int32 [N, h / 2, w / 2]: u, [N, D, h, w]."""
    assert network.decoder.top_up is not None
    return _doubled(g, _vectors(g, codes, network.top_codebook), network.decoder.top_up)


def _doubled(g: Graph, x: str, conv: nn.Module) -> str:
    """[N, F, h, w] → [N, F', 2 h, 2 w]."""
    assert isinstance(conv, nn.ConvTranspose2d)
    weights = array(conv.weight), array(conv.bias)
    return g.op("ConvTranspose", x, *weights, kernel_shape=[4, 4], pads=[1] * 4, strides=[2, 2])


def _blocks(g: Graph, x: str, blocks: nn.ModuleList) -> str:
    for block in blocks:
        assert isinstance(block, ResidualBlock)
        wide = _conv(g, g.op("Relu", x), block.wide)
        x = g.op("Add", x, _conv(g, g.op("Relu", wide), block.out))
    return x


def _conv(g: Graph, x: str, conv: nn.Conv2d) -> str:
    assert isinstance(conv.padding[0], int)
    return g.op(
        "Conv",
        x,
        array(conv.weight),
        array(conv.bias),
        kernel_shape=list(conv.kernel_size),
        pads=[conv.padding[0]] * 4,
        strides=list(conv.stride),
    )
