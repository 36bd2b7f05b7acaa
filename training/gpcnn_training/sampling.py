"""Reference samplers in eager PyTorch. All are the same function of the noise; they differ in cost alone.

Shapes: noise float [N, C, H, W] in [0, 1); levels int32 [N, C, H, W]; mask bool [N, C, H, W], true where `known` stays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from gpcnn_training.code_pyramid import CodePyramid
from gpcnn_training.conditionals import conditionals
from gpcnn_training.conditionals import inverse_cdf as inverse_cdf
from gpcnn_training.conditionals import log_probability as log_probability
from gpcnn_training.model import GatedLayer, GatedPixelCNN
from gpcnn_training.network import Network
from gpcnn_training.pixelcnn import PixelCNN


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Convolutions in float32 within: on a GPU, PyTorch rounds their operands to TF32's 11 bits as it comes."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@torch.no_grad()
@full_precision()
def score(model: Network, levels_NCHW: Tensor, condition: Tensor | None = None) -> Tensor:
    """Log-probability of each sub-pixel given those before it, float [N, C, H, W], nats."""
    return conditionals(model.spec, model(levels_NCHW, condition), levels_NCHW).log_probability(levels_NCHW)


def _start(noise: Tensor, known: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    known = torch.zeros_like(noise, dtype=torch.int32) if known is None else known.to(torch.int32)
    mask = torch.zeros_like(noise, dtype=torch.bool) if mask is None else mask
    return torch.where(mask, known, 0), known, mask


@torch.no_grad()
@full_precision()
def sample_raster(
    model: Network,
    noise: Tensor,
    condition: Tensor | None = None,
    known: Tensor | None = None,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    pixels: int | None = None,
) -> Tensor:
    """The naive loop, which defines the sample: the full network once per sub-pixel, in raster and channel order.

    With `pixels`, only that many pixels are drawn; the others stay as they were.
    """
    image, _, mask = _start(noise, known, mask)
    c, h, w = noise.shape[1:]
    for pixel in range(h * w if pixels is None else pixels):
        i, j = divmod(pixel, w)
        for k in range(c):
            here = (..., slice(i, i + 1), slice(j, j + 1))
            given = conditionals(model.spec, model(image, condition)[here], image[here])
            drawn = given.inverse_cdf(noise[here], temperature)[:, k, 0, 0]
            image[:, k, i, j] = torch.where(mask[:, k, i, j], image[:, k, i, j], drawn)
    return image


@torch.no_grad()
@full_precision()
def sample_jacobi(
    model: Network,
    noise: Tensor,
    condition: Tensor | None = None,
    known: Tensor | None = None,
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> tuple[Tensor, int]:
    """Sample every pixel at once from a guess until nothing changes; returns (levels, evaluations)."""
    image, known, mask = _start(noise, known, mask)
    evaluations = 0
    while True:
        given = conditionals(model.spec, model(image, condition), image)
        drawn = torch.where(mask, known, given.inverse_cdf(noise, temperature))
        evaluations += 1
        if torch.equal(drawn, image):
            return image, evaluations
        image = drawn


@torch.no_grad()
@full_precision()
def sample_cached(
    model: Network,
    noise: Tensor,
    condition: Tensor | None = None,
    known: Tensor | None = None,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    window: int = 1,
) -> tuple[Tensor, Tensor]:
    """Row and column caches, `window` columns at a time: returns (levels, log_prob [N, C, H, W]).

    A PixelCNN of 2016 is drawn a pixel at a time, whatever the window. Codes of two levels are drawn one level after
    the other.
    """
    image, known, mask = _start(noise, known, mask)
    if isinstance(model, CodePyramid):
        return _sample_levels(model, noise, condition, known, mask, temperature, window)
    if isinstance(model, PixelCNN):
        return _sample_pixels(model, noise, condition, image, known, mask, temperature)
    assert isinstance(model, GatedPixelCNN)
    spec = model.spec
    n, (c, height, width) = noise.shape[0], spec.image_shape
    first, last = model.layers[0], model.layers[-1]
    assert isinstance(first, GatedLayer)
    assert isinstance(last, GatedLayer)
    bias = model.condition(condition)
    v_caches = [noise.new_zeros(n, spec.features, last.above, width) for _ in range(spec.layers - 1)]
    above = noise.new_zeros(n, spec.inputs, first.above, width)
    log_prob = torch.empty_like(noise)
    for i in range(height):
        links, v_caches = model.vertical_row(above, v_caches, model.row_of(bias, i))
        h_caches = [noise.new_zeros(n, spec.features, 1, last.left) for _ in range(spec.layers - 1)]
        row = noise.new_zeros(n, spec.inputs, 1, first.left + width)
        for start in range(0, width, window):
            here = slice(start, min(start + window, width))
            values_here = slice(first.left + here.start, first.left + here.stop)
            links_here = [link[..., here] for link in links]
            row[..., values_here] = model.values(image[:, :, i : i + 1, here])
            # After w · C evaluations every sub-pixel is exact: w = 1 in grey takes one, and needs no proof of it.
            for _ in range(window * c):
                outputs, features = model.horizontal_window(
                    row[..., here.start : values_here.stop], h_caches, links_here
                )
                given = conditionals(spec, outputs, image[:, :, i : i + 1, here])
                drawn = given.inverse_cdf(noise[:, :, i : i + 1, here], temperature)
                drawn = torch.where(mask[:, :, i : i + 1, here], known[:, :, i : i + 1, here], drawn)
                done = torch.equal(drawn, image[:, :, i : i + 1, here])
                image[:, :, i : i + 1, here] = drawn
                row[..., values_here] = model.values(drawn)
                if done:
                    break
            log_prob[:, :, i : i + 1, here] = given.log_probability(drawn)
            h_caches = [x[..., x.shape[3] - last.left :] for x in features]
        above = torch.cat([above, row[..., first.left :]], dim=2)[:, :, 1:]
    return image, log_prob


def _sample_levels(
    model: CodePyramid,
    noise: Tensor,
    condition: Tensor | None,
    known: Tensor,
    mask: Tensor,
    temperature: float,
    window: int,
) -> tuple[Tensor, Tensor]:
    """`sample_cached` of both levels of codes: the top codes decide the condition of the bottom ones."""
    parts = list(zip(*(model.split(x) for x in (noise, known, mask)), strict=True))
    (u, kept, keep), below = parts
    top, top_log_prob = sample_cached(model.top, u, condition, kept, keep, temperature, window)
    bottom, log_prob = sample_cached(model.bottom, below[0], top, below[1], below[2], temperature, window)
    return model.join(top, bottom), model.join(top_log_prob, log_prob)


def _sample_pixels(
    model: PixelCNN,
    noise: Tensor,
    condition: Tensor | None,
    image: Tensor,
    known: Tensor,
    mask: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """`sample_cached` of a PixelCNN: what its convolutions read of earlier pixels is kept."""
    c, height, width = model.spec.image_shape
    caches, biases = model.caches(noise), model.condition(condition)
    log_prob = torch.empty_like(noise)
    for i in range(height):
        for j in range(width):
            here = (..., slice(i, i + 1), slice(j, j + 1))
            for k in range(c):  # a channel needs those of the pixel that come before it
                outputs = model.pixel(model.values(image[here])[:, :, 0, 0], j, caches, biases)
                drawn = conditionals(model.spec, outputs, image[here]).inverse_cdf(noise[here], temperature)[:, k, 0, 0]
                image[:, k, i, j] = torch.where(mask[:, k, i, j], known[:, k, i, j], drawn)
            log_prob[here] = conditionals(model.spec, outputs, image[here]).log_probability(image[here])
            model.drawn(model.values(image[here])[:, :, 0, 0], j, caches)
        caches = model.next_row(caches)
    return image, log_prob
