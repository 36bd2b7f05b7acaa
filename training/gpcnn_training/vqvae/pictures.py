"""Pictures as a VQ-VAE takes and gives them: 8-bit pixels ↔ numbers from -1 to 1, moved or mirrored; their codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gpcnn_deploy.spec import VqvaeSpec
from gpcnn_training.data.dataset import Pixels
from gpcnn_training.sampling import full_precision
from gpcnn_training.vqvae.codebook import perplexity
from gpcnn_training.vqvae_network import Vqvae

Codes = npt.NDArray[np.uint16]

_PIXELS_AT_ONCE = 1 << 18


def as_numbers(pixels_NCHW: Pixels) -> Tensor:
    """8-bit pixels → float32 from -1 to 1, same shape."""
    return torch.from_numpy(np.ascontiguousarray(pixels_NCHW)).float() * (2 / 255) - 1


def as_pixels(pictures_NCHW: Tensor) -> Pixels:
    """What a decoder gives → 8-bit pixels: rounded, and cut at 0 and 255."""
    rounded = ((pictures_NCHW + 1) * 127.5).round().clamp(0, 255)
    pixels: Pixels = rounded.to(torch.uint8).cpu().numpy()
    return pixels


def moved(pixels_NCHW: Pixels, mirror: bool, shift: int, random: np.random.Generator) -> Pixels:
    """Pictures each moved by up to `shift` pixels in each direction, what comes in repeating the edge; with `mirror`,
    every other one, by chance, is mirrored.
    """
    n, c, h, w = pixels_NCHW.shape
    mirrored = random.random(n) < 0.5
    down, right = random.integers(-shift, shift, (2, n), endpoint=True)
    if mirror:
        pixels_NCHW = pixels_NCHW.copy()
        pixels_NCHW[mirrored] = pixels_NCHW[mirrored][..., ::-1]
    if not shift:
        return pixels_NCHW
    rows = np.clip(np.arange(h) + down[:, None], 0, h - 1)
    columns = np.clip(np.arange(w) + right[:, None], 0, w - 1)
    images, channels = np.arange(n)[:, None, None, None], np.arange(c)[None, :, None, None]
    shifted: Pixels = pixels_NCHW[images, channels, rows[:, None, :, None], columns[:, None, None, :]]
    return shifted


@torch.no_grad()
@full_precision()
def encode(network: Vqvae, pixels_NCHW: Pixels) -> Codes:
    """Codes uint16 [N, 1, h, w] of pictures, where the network is."""
    parts = []
    for part in _parts(pixels_NCHW):
        parts.append(network.encode(_on_device(network, part)).cpu().numpy().astype(np.uint16))
    return np.concatenate(parts)[:, None]


@torch.no_grad()
@full_precision()
def decode(network: Vqvae, codes_N1hw: npt.NDArray[np.integer]) -> Pixels:
    """Pictures uint8 [N, C, H, W] of codes [N, 1, h, w]."""
    device = network.codebook.device
    size = max(1, _PIXELS_AT_ONCE // (network.spec.height * network.spec.width))
    codes = codes_N1hw[:, 0].astype(np.int64)
    parts = [codes[start : start + size] for start in range(0, len(codes), size)]
    return np.concatenate([as_pixels(network.decode(torch.from_numpy(part).to(device))) for part in parts])


@dataclass(frozen=True)
class Reconstruction:
    """How well pictures come back from their codes.

    Attributes:
        psnr: in dB, of the mean squared error of all 8-bit pixels of all pictures.
        perplexity: of their codes; of two levels, of the vectors of both codebooks.
        codes: uint16 [N, 1, h, w].
        squared_error: mean squared error of all pixels, which are 0 to 255.
    """

    psnr: float
    perplexity: float
    codes: Codes
    squared_error: float


def reconstruct(
    network: Vqvae, pixels_NCHW: Pixels, on_progress: Callable[[float], None] = lambda share: None
) -> Reconstruction:
    """Encode and decode pictures, and compare."""
    codes, squares, done = [], 0.0, 0
    for part in _parts(pixels_NCHW):
        found = encode(network, part)
        difference = decode(network, found).astype(np.float64) - part
        squares += float((difference * difference).sum())
        codes.append(found)
        done += len(part)
        on_progress(done / len(pixels_NCHW))
    together = np.concatenate(codes)
    error = squares / pixels_NCHW.size
    return Reconstruction(decibels(error), perplexity(_uses(network.spec, together)), together, error)


def _uses(spec: VqvaeSpec, codes_N1hw: Codes) -> Tensor:
    """How often each vector of the codebooks is used: [K], of two levels [2 K]."""
    above = codes_N1hw.shape[2] - spec.bottom[0]
    levels = [codes_N1hw[:, :, above:]] + ([codes_N1hw[:, :, :above]] if above else [])
    return torch.cat([torch.from_numpy(np.bincount(level.reshape(-1), minlength=spec.codes)) for level in levels])


def decibels(squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error of pixels from 0 to 255; at most 100."""
    return min(100.0, 10 * math.log10(255**2 / max(squared_error, 1e-9)))


def _parts(pixels_NCHW: Pixels) -> list[Pixels]:
    size = max(1, _PIXELS_AT_ONCE // (pixels_NCHW.shape[2] * pixels_NCHW.shape[3]))
    return [pixels_NCHW[start : start + size] for start in range(0, len(pixels_NCHW), size)]


def _on_device(network: Vqvae, pixels_NCHW: Pixels) -> Tensor:
    return as_numbers(pixels_NCHW).to(network.codebook.device)
