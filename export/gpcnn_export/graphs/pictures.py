"""A VQ-VAE's encoder and decoder as ONNX: pictures → codes, and codes → pictures, 8-bit on the outside.

Shape legend as in `gpcnn_training.vqvae_network`.
"""

from __future__ import annotations

import numpy as np
import onnx
from torch import nn

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
        codes: name of int32 [N, 1, h, w].

    Returns:
        the name of the pictures, uint8 [N, C, H, W]: rounded as `as_pixels` does.
    """
    h, w = network.spec.grid
    grids = g.reshape(codes, -1 if g.root.batch is None else g.root.batch, h, w)
    vectors = g.op("Gather", array(network.codebook), grids, axis=0)
    x = _conv(g, g.op("Transpose", vectors, perm=[0, 3, 1, 2]), network.decoder.first)
    x = _blocks(g, x, network.decoder.blocks)
    for conv in network.decoder.up:
        assert isinstance(conv, nn.ConvTranspose2d)
        x = g.op(
            "ConvTranspose",
            g.op("Relu", x),
            array(conv.weight),
            array(conv.bias),
            kernel_shape=[4, 4],
            pads=[1] * 4,
            strides=[2, 2],
        )
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
        A model with input picture uint8 [N, C, H, W] and output codes int32 [N, 1, h, w]. Metadata is not set yet.
    """
    g, spec = Graph("encoder"), network.spec
    g.take(ports.inputs("encoder", prior, vqvae=spec))
    numbers = g.op("Cast", "picture", to=onnx.TensorProto.FLOAT)
    x = g.op("Sub", g.op("Mul", numbers, np.array(2 / 255, np.float32)), np.array(1, np.float32))
    for conv in network.encoder.down:
        assert isinstance(conv, nn.Conv2d)
        x = g.op("Relu", _conv(g, x, conv))
    x = _blocks(g, _conv(g, x, network.encoder.first), network.encoder.blocks)
    z = _conv(g, g.op("Relu", x), network.encoder.out)
    flat = g.reshape(g.op("Transpose", z, perm=[0, 2, 3, 1]), -1, spec.code_size)
    codebook = array(network.codebook)
    # |z - e|² without |z|², which all codes share.
    products = g.op("MatMul", flat, g.matrix(np.ascontiguousarray(-2 * codebook.T)))
    distances = g.op("Add", products, (codebook * codebook).sum(1))
    nearest = g.op("Cast", g.op("ArgMin", distances, axis=1, keepdims=0), to=onnx.TensorProto.INT32)
    codes = g.reshape(nearest, -1, 1, *spec.grid)
    for name, port in ports.outputs("encoder", prior, vqvae=spec).items():
        g.output(codes, port.dtype, port.shape, name)
    return g.model()


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
