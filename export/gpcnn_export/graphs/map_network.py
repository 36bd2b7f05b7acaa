"""The network m that brings a spatial map to the size of the image, as nodes of a graph: s = m(h).

Shape legend: N images, M planes of the map, h × w its size, G feature maps of m, H × W the size of the image.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from gpcnn_export.graphs.builder import Graph
from gpcnn_export.graphs.weights import array
from gpcnn_training.map_network import SLOPE, MapNetwork


def map_network(g: Graph, network: MapNetwork, value: str) -> str:
    """Add m to a graph.

    Args:
        g: the graph, or a branch of it.
        network: the weights.
        value: the map, int32 or float32 [N, M, h, w].

    Returns:
        Name of s, float32 [N, G, H, W].
    """
    weight, bias = array(network.read.weight), array(network.read.bias)
    if network.categories:
        rows = g.op("Add", value, network.plane_starts.numpy())
        vectors = g.op("Gather", np.ascontiguousarray(weight[:, :, 0, 0].T), rows, axis=0)  # [N, M, h, w, G]
        x = g.op("Add", g.op("ReduceSum", vectors, np.array([1], np.int64), keepdims=0), bias)
        x = g.op("Transpose", x, perm=[0, 3, 1, 2])
    else:
        x = g.op("Conv", value, weight, bias, kernel_shape=[1, 1])
    for layer in network.context:
        assert isinstance(layer, nn.Conv2d)
        x = g.op("Conv", x, array(layer.weight), array(layer.bias), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = g.op("LeakyRelu", x, alpha=SLOPE)
    for stage in network.up:
        assert isinstance(stage, nn.ConvTranspose2d)
        factor = list(stage.kernel_size)
        x = g.op("ConvTranspose", x, array(stage.weight), array(stage.bias), kernel_shape=factor, strides=factor)
        x = g.op("LeakyRelu", x, alpha=SLOPE)
    return x
