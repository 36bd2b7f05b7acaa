"""Sheets of a VQ-VAE's pictures: what it draws, and what becomes of pictures on their way through the codes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from gpcnn_deploy.philox import noise
from gpcnn_deploy.pictures.levels import grid
from gpcnn_training.data.dataset import Pixels
from gpcnn_training.network import Network
from gpcnn_training.sampling import sample_cached
from gpcnn_training.vqvae.pictures import decode, encode
from gpcnn_training.vqvae_network import Vqvae

_CODES_OF_A_SHEET = 20_000  # drawn in seconds


def drawn_sheet(prior: Network, pictures: Vqvae, seed: int, most: int = 80) -> tuple[npt.NDArray[np.uint8], int]:
    """A sheet of drawn pictures, one column per class (of at most the first ten); picture k is that of the seed.

    Returns:
        (uint8 [rows, columns] or [rows, columns, 3], number of pictures).
    """
    spec = prior.spec
    device = next(prior.parameters()).device
    most = max(1, min(most, _CODES_OF_A_SHEET // spec.subpixels))
    columns = min(10, most, spec.conditioning_size if spec.conditioning == "label" else 10)
    count = max(1, min(8, most // columns)) * columns
    condition = torch.arange(count, device=device) % columns if spec.conditioning == "label" else None
    uniforms = torch.from_numpy(noise(spec, seed, count)).to(device)
    codes, _ = sample_cached(prior, uniforms, condition, window=spec.width if device.type != "cpu" else 1)
    return grid(decode(pictures, codes.cpu().numpy()), columns), count


def reconstructed_sheet(pictures: Vqvae, pixels: Pixels, columns: int = 10) -> npt.NDArray[np.uint8]:
    """Pictures uint8 [N, C, H, W] in the first row, as they come back from their codes in the second; N ≤ columns."""
    shown = pixels[:columns]
    return grid(np.concatenate([shown, decode(pictures, encode(pictures, shown))]), len(shown))
