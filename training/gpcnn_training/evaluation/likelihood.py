"""How good a model is: negative log-likelihood in nats an image and bits a dimension, and a sheet of samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from gpcnn_deploy.philox import noise
from gpcnn_deploy.pictures.levels import grid, pixels_from_levels, save_png
from gpcnn_deploy.pictures.maps import enlarged, made_small
from gpcnn_deploy.spec import ModelSpec, Quantization
from gpcnn_training.data.conditions import Conditions, conditions_of
from gpcnn_training.data.dataset import DataSet, Labels, Pixels
from gpcnn_training.data.quantize import quantization_for, stream, to_levels
from gpcnn_training.network import Network
from gpcnn_training.sampling import sample_cached, score

BINARIZATION_SEED = 2016  # of the test images: fixed, so that figures of different runs can be compared
_SUBPIXELS_AT_ONCE = 100_000
DRAWN_FROM_IMAGES = ("embedding", "map")
"""Kinds of models whose samples follow images of the data, which the sheet shows."""
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
    model: Network,
    pixels: Pixels,
    conditions: Conditions,
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
        conditions: what each image is scored under, as `conditions_of` gives it; not used by an unconditional model or
            an autoencoder.
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
        condition = None
        if conditions is not None and spec.conditioning != "none" and model.encoder is None:
            condition = torch.from_numpy(conditions[part.start : part.stop]).to(device)
        log_prob = score(model, torch.from_numpy(levels).to(device), condition)
        total -= float(log_prob.cpu().double().sum())
        if on_progress is not None:
            on_progress(part.stop / len(pixels))
    return total / len(pixels)


def mixture_negative_log_likelihood(
    model: Network,
    pixels: Pixels,
    labels: Labels,
    quantization: Quantization,
    on_progress: Callable[[float], None] | None = None,
    draw: int = 0,
) -> tuple[float, float]:
    """Mean negative log-likelihood of a model conditional on labels: given each image's label, and of the mixture.

    The mixture is the model that does not know the label, p(x) = mean over y of p(x | y), every label equally likely.
    It is what an unconditional model is compared with. Every image is scored under every label.

    Args:
        model, pixels, labels, quantization, on_progress, draw: as of `negative_log_likelihood`.

    Returns:
        (-log p(x | y), -log p(x)), each in nats an image.
    """
    spec = model.spec
    device = next(model.parameters()).device
    classes = spec.conditioning_size
    batch = max(1, _SUBPIXELS_AT_ONCE // spec.subpixels)
    given, mixed = 0.0, 0.0
    for start in range(0, len(pixels), batch):
        part = range(start, min(start + batch, len(pixels)))
        levels = torch.from_numpy(levels_of_draw(pixels, spec, quantization, part, draw)).to(device)
        log_prob = torch.empty(classes, len(part), dtype=torch.float64)
        for label in range(classes):
            condition = torch.full((len(part),), label, device=device)
            log_prob[label] = score(model, levels, condition).cpu().double().sum(dim=(1, 2, 3))
            if on_progress is not None:
                on_progress((part.start + len(part) * (label + 1) / classes) / len(pixels))
        known = torch.from_numpy(labels[part.start : part.stop])
        given -= float(log_prob.gather(0, known[None]).sum())
        mixed -= float((torch.logsumexp(log_prob, dim=0) - math.log(classes)).sum())
    return given / len(pixels), mixed / len(pixels)


def sample_sheet(
    model: Network, seed: int, data: DataSet | None = None, most: int = 80
) -> tuple[npt.NDArray[np.uint8], int]:
    """A sheet of samples, one column per class (of at most the first ten); image k of the sheet is image k of the seed.

    Where images are drawn from the code, the embedding or the map of an image, the sheet has test images of `data` in
    its first row, and under each one images drawn from what it gives. Of a model that enlarges small pictures, the
    small ones are its second row.

    Returns:
        (uint8 [rows, columns] or [rows, columns, 3], number of samples).
    """
    spec = model.spec
    device = next(model.parameters()).device
    most = max(1, min(most, _SUBPIXELS_OF_A_SHEET // spec.subpixels))
    columns = min(10, most, spec.conditioning_size if spec.conditioning == "label" else 10)
    originals: npt.NDArray[np.int64] | None = None
    if spec.conditioning in DRAWN_FROM_IMAGES:
        assert data is not None
        columns = min(columns, len(data.test_pixels))
        quantization = quantization_for(spec.channels, spec.levels)
        originals = levels_of_draw(data.test_pixels, spec, quantization, range(columns))
    rows = max(1, min(8, most // columns))
    count = rows * columns
    condition = torch.arange(count, device=device) % columns if spec.conditioning == "label" else None
    if originals is not None:
        condition = _of_test_images(model, originals, data)
        condition = condition.repeat(rows, *[1] * (condition.ndim - 1))
    uniforms = torch.from_numpy(noise(spec, seed, count)).to(device)
    window = spec.width if device.type != "cpu" else max(1, spec.width // 4)
    levels, _ = sample_cached(model, uniforms, condition, window=window)
    shown = levels.cpu().numpy().astype(np.int64)
    pixels = pixels_from_levels(shown, spec.levels)
    if originals is not None:
        above = [pixels_from_levels(originals, spec.levels)]
        if spec.map_kind == "picture":
            assert data is not None
            small = made_small(data.test_pixels[:columns], spec.map_height, spec.map_width)
            above.append(enlarged(small, spec.height, spec.width))
        pixels = np.concatenate([*above, pixels])
    return grid(pixels, columns), count


@torch.no_grad()
def _of_test_images(model: Network, levels: npt.NDArray[np.int64], data: DataSet | None) -> torch.Tensor:
    """What the first test images, whose levels are given, are drawn from."""
    device = next(model.parameters()).device
    if model.encoder is not None:
        return model.embed(torch.from_numpy(levels).to(device))
    assert data is not None
    _, given = conditions_of(data, model.spec, own_codes=False)
    assert given is not None
    return torch.from_numpy(given[: len(levels)]).to(device)


def draw_samples(path: Path, model: Network, seed: int, data: DataSet | None = None) -> int:
    """Write `sample_sheet` as PNG; returns how many samples it holds.

    Raises:
        OutputError: the file cannot be written.
    """
    sheet, count = sample_sheet(model, seed, data)
    save_png(path, sheet, scale=max(2, 40 // max(model.spec.height, model.spec.width)))
    return count
