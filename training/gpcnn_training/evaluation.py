"""How good a model is: negative log-likelihood in nats an image and bits a dimension, and a sheet of samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from gpcnn_deploy.noise import noise
from gpcnn_deploy.pictures import grid, pixels_from_levels, save_png
from gpcnn_deploy.spec import ModelSpec
from gpcnn_training.dataset import Labels, Pixels
from gpcnn_training.model import GatedPixelCNN
from gpcnn_training.quantize import Quantization, stream, to_levels
from gpcnn_training.sampling import sample_cached, score

BINARIZATION_SEED = 2016  # of the test images: fixed, so that figures of different runs can be compared
_SUBPIXELS_AT_ONCE = 100_000
_SUBPIXELS_OF_A_SHEET = 80_000  # drawn in seconds; a sheet of larger images holds fewer


def bits_per_dim(nats_per_image: float, spec: ModelSpec) -> float:
    """Nats an image → bits a sub-pixel."""
    return nats_per_image / spec.subpixels / math.log(2)


def levels_of_draw(
    pixels: Pixels, spec: ModelSpec, quantization: Quantization, part: range, draw: int = 0
) -> npt.NDArray[np.int64]:
    """Levels int64 [n, C, H, W] of the test images in `part`; `draw` chooses one of their random binarizations."""
    streams = [stream(BINARIZATION_SEED + (draw << 32), k) for k in part]
    return np.stack([to_levels(pixels[k], spec.levels, quantization, s) for k, s in zip(part, streams, strict=True)])


def negative_log_likelihood(
    model: GatedPixelCNN,
    pixels: Pixels,
    labels: Labels,
    quantization: Quantization,
    on_progress: Callable[[float], None] | None = None,
    draw: int = 0,
) -> float:
    """Mean negative log-likelihood in nats an image.

    Stochastic binarization draws image k's levels from a fixed stream of its own, whatever images surround it; each
    `draw` (0 to 2^31 - 1) has other streams.

    Args:
        model: on the device to use; evaluated in float32.
        pixels: uint8 [N, C, H, W].
        labels: int64 [N]; not used by an unconditional model.
        quantization: how pixels become levels.
        on_progress: called with the share that is done.
        draw: which binarization of the images.
    """
    spec = model.spec
    device = next(model.parameters()).device
    batch = max(1, _SUBPIXELS_AT_ONCE // spec.subpixels)
    total = 0.0
    for start in range(0, len(pixels), batch):
        part = range(start, min(start + batch, len(pixels)))
        levels = levels_of_draw(pixels, spec, quantization, part, draw)
        condition = (
            torch.from_numpy(labels[part.start : part.stop]).to(device) if spec.conditioning == "label" else None
        )
        log_prob = score(model, torch.from_numpy(levels).to(device), condition)
        total -= float(log_prob.double().sum())
        if on_progress is not None:
            on_progress(part.stop / len(pixels))
    return total / len(pixels)


def draw_samples(path: Path, model: GatedPixelCNN, seed: int) -> int:
    """Write a sheet of samples, one column per class (of at most the first ten), as PNG; returns how many it holds.

    Image k of the sheet is image k of the seed.

    Raises:
        OutputError: the file cannot be written.
    """
    spec = model.spec
    device = next(model.parameters()).device
    most = max(1, _SUBPIXELS_OF_A_SHEET // spec.subpixels)
    columns = min(10, most, spec.conditioning_size) if spec.conditioning == "label" else min(10, most)
    rows = min(8, most // columns)
    count = rows * columns
    labels = torch.arange(count, device=device) % columns if spec.conditioning == "label" else None
    uniforms = torch.from_numpy(noise(spec, seed, count)).to(device)
    window = spec.width if device.type != "cpu" else max(1, spec.width // 4)
    levels, _ = sample_cached(model, uniforms, labels, window=window)
    sheet = grid(pixels_from_levels(levels.cpu().numpy(), spec.levels), columns)
    save_png(path, sheet, scale=max(2, 40 // max(spec.height, spec.width)))
    return count
