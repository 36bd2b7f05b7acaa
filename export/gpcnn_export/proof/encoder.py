"""The proof that an encoder gives the embeddings that eager PyTorch gives.

Shape legend: N images, C channels, H rows, W columns, K levels, E length of the embedding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from gpcnn_deploy.errors import ParityError
from gpcnn_deploy.metadata import EncoderParity
from gpcnn_deploy.spec import ModelSpec
from gpcnn_training.network import Network

Levels = npt.NDArray[np.int32]
Embed = Callable[[Levels], npt.NDArray[np.float32]]
"""Runs an encoder engine, as `gpcnn_runtime.Encoder.embed` does."""

EMBEDDING_TOLERANCE = 1e-4
"""Largest `embedding_error`."""


def check_images(spec: ModelSpec, images: int = 32, seed: int = 0) -> Levels:
    """Levels [N, C, H, W] that a check runs on: black, white, flat patches as in pictures, and noise."""
    return check_levels(spec.image_shape, spec.levels, images, seed)


def check_levels(shape_CHW: tuple[int, int, int], levels: int, images: int, seed: int = 0) -> Levels:
    """The same of any shape and number of levels."""
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, 2**64 - 1], np.uint64)))
    shape = (images, *shape_CHW)
    noise = rng.integers(0, levels, shape, np.int32)
    patches = np.kron(rng.integers(0, levels, shape, np.int32), np.ones((4, 4), np.int32))
    _, height, width = shape_CHW
    made = np.where(np.arange(images)[:, None, None, None] % 2, noise, patches[..., :height, :width])
    made[0], made[1] = 0, levels - 1
    return np.ascontiguousarray(made, np.int32)


def embedding_error(eager: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> float:
    """Largest difference of a number of embeddings [N, E], relative to its embedding's largest if that exceeds 1."""
    scale = np.maximum(1, np.abs(eager).max(axis=1, keepdims=True))
    return float((np.abs(eager - found) / scale).max())


@torch.no_grad()
def prove_encoder(model: Network, embed: Embed) -> EncoderParity:
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
