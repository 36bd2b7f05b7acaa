"""The autoencoder's encoder as an engine of its own: a plain graph from a picture to its code, and its proof.

Shape legend: N images, C channels, H rows, W columns, K levels, E length of the embedding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx
import torch

from gpcnn_deploy.errors import ParityError
from gpcnn_deploy.metadata import EncoderParity
from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.graphs.builder import Graph
from gpcnn_export.graphs.weights import array
from gpcnn_export.proof.parity import cpu_session
from gpcnn_training.encoder import Encoder
from gpcnn_training.model import GatedPixelCNN

Levels = npt.NDArray[np.int32]
Embed = Callable[[Levels], npt.NDArray[np.float32]]

EMBEDDING_TOLERANCE = 1e-4
"""Largest `embedding_error`."""


def encoder_graph(encoder: Encoder, spec: ModelSpec) -> onnx.ModelProto:
    """The encoder of a model, batch dynamic.

    Returns:
        A model with input image int32 [N, C, H, W], levels 0..K-1, and output embedding float32 [N, E]. Metadata is not
        set yet.
    """
    g, top = Graph("encoder"), spec.levels - 1
    image = g.input("image", "int32", ["N", *spec.image_shape], exact=True)
    centred = g.op(
        "Sub", g.op("Mul", image, np.array(2, np.int32)), np.array(top, np.int32)
    )  # exact, as in GatedPixelCNN.values
    x = g.op("Mul", g.op("Cast", centred, to=onnx.TensorProto.FLOAT), np.array(1 / top, np.float32))
    for index, conv in enumerate((encoder.conv1, encoder.conv2, encoder.conv3)):
        size, pad = conv.kernel_size[0], conv.kernel_size[0] // 2
        weights = array(conv.weight), array(conv.bias)
        x = g.op("Relu", g.op("Conv", x, *weights, kernel_shape=[size, size], pads=[pad] * 4))
        if index < 2:
            x = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    code = g.op("Gemm", g.op("Flatten", x, axis=1), array(encoder.code.weight), array(encoder.code.bias), transB=1)
    g.output(code, "float", ["N", spec.conditioning_size], name="embedding")
    return g.model()


def check_images(spec: ModelSpec, images: int = 32, seed: int = 0) -> Levels:
    """Levels [N, C, H, W] that a check runs on: black, white, flat patches as in pictures, and noise."""
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, 2**64 - 1], np.uint64)))
    shape = (images, *spec.image_shape)
    noise = rng.integers(0, spec.levels, shape, np.int32)
    patches = np.kron(rng.integers(0, spec.levels, shape, np.int32), np.ones((4, 4), np.int32))
    levels = np.where(np.arange(images)[:, None, None, None] % 2, noise, patches[..., : spec.height, : spec.width])
    levels[0], levels[1] = 0, spec.levels - 1
    return np.ascontiguousarray(levels, np.int32)


def embedding_error(eager: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> float:
    """Largest difference of a number of embeddings [N, E], relative to its embedding's largest if that exceeds 1."""
    scale = np.maximum(1, np.abs(eager).max(axis=1, keepdims=True))
    return float((np.abs(eager - found) / scale).max())


@torch.no_grad()
def prove_encoder(model: GatedPixelCNN, embed: Embed) -> EncoderParity:
    """Hold an encoder engine against the eager encoder.

    Args:
        model: the eager autoencoder, in eval mode.
        embed: runs the engine, int32 [N, C, H, W] → float32 [N, E].

    Raises:
        ParityError: an embedding differs by more than EMBEDDING_TOLERANCE; the message gives the numbers.
    """
    levels = check_images(model.spec)
    eager, found = model.embed(torch.from_numpy(levels)).numpy(), embed(levels)
    if found.shape != eager.shape:
        raise ParityError(f"the encoder gives embeddings {list(found.shape)}: expected {list(eager.shape)}")
    error = embedding_error(eager, found)
    if not error <= EMBEDDING_TOLERANCE:  # NaN is not
        raise ParityError(
            f"embeddings differ from eager PyTorch's by up to {error:.2e}: expected at most {EMBEDDING_TOLERANCE:.0e}"
        )
    return EncoderParity(images=len(levels), embedding_error=error, embedding_tolerance=EMBEDDING_TOLERANCE)


def onnx_embed(engine: bytes) -> Embed:
    """Run an encoder engine on ONNX Runtime's CPU provider.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
    """
    session = cpu_session(engine)

    def embed(levels: Levels) -> npt.NDArray[np.float32]:
        (embedding,) = session.run(["embedding"], {"image": levels})
        return np.asarray(embedding, np.float32)

    return embed
