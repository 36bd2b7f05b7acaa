"""The `encoder` role: a plain graph from a picture to its code.

Shape legend: N images, C channels, H rows, W columns, K levels, E length of the embedding.
"""

from __future__ import annotations

import numpy as np
import onnx

from gpcnn_deploy import ports
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.graphs.builder import Graph
from gpcnn_export.graphs.weights import array
from gpcnn_training.encoder import Encoder


def encoder_graph(encoder: Encoder, spec: ModelSpec) -> onnx.ModelProto:
    """The encoder of a model, batch dynamic.

    Returns:
        A model with input image int32 [N, C, H, W], levels 0..K-1, and output embedding float32 [N, E]. Metadata is not
        set yet.
    """
    g, top = Graph("encoder"), spec.levels - 1
    g.take(ports.inputs("encoder", spec))
    centred = g.op(
        "Sub", g.op("Mul", "image", np.array(2, np.int32)), np.array(top, np.int32)
    )  # exact, as in GatedPixelCNN.values
    x = g.op("Mul", g.op("Cast", centred, to=onnx.TensorProto.FLOAT), np.array(1 / top, np.float32))
    for index, conv in enumerate((encoder.conv1, encoder.conv2, encoder.conv3)):
        size, pad = conv.kernel_size[0], conv.kernel_size[0] // 2
        weights = array(conv.weight), array(conv.bias)
        x = g.op("Relu", g.op("Conv", x, *weights, kernel_shape=[size, size], pads=[pad] * 4))
        if index < 2:
            x = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    code = g.op("Gemm", g.op("Flatten", x, axis=1), array(encoder.code.weight), array(encoder.code.bias), transB=1)
    for name, port in ports.outputs("encoder", spec).items():
        g.output(code, port.dtype, port.shape, name)
    return g.model()
