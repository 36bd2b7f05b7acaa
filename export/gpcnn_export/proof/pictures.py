"""The proof that an engine decodes and encodes pictures as eager PyTorch does, but for one level and near-ties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from gpcnn_deploy.errors import ParityError
from gpcnn_deploy.metadata import CodesParity, PictureParity
from gpcnn_deploy.spec import ModelSpec, VqvaeSpec
from gpcnn_export.proof.encoder import check_levels
from gpcnn_export.proof.parity import feeds, request_of
from gpcnn_runtime.engines.base import Engine
from gpcnn_training.architectures import Prior
from gpcnn_training.sampling import full_precision
from gpcnn_training.vqvae.pictures import as_numbers, decode
from gpcnn_training.vqvae_network import Vqvae, vectors_of

Encode = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.int32]]
"""Runs an encoder engine: uint8 [N, C, H, W] → codes int32 [N, 1, h, w]."""

Decode = Callable[[npt.NDArray[np.int32]], npt.NDArray[np.uint8]]
"""Runs a decoder engine: codes int32 [N, 1, h, w] → uint8 [N, C, H, W]."""

PIXEL_TOLERANCE = 1
"""Largest difference of a pixel, of 255."""
DISTANCE_TOLERANCE = 1e-4
"""How much further than the nearest vector of the codebook the one that was taken may be, relative to the distance."""


def pixel_error(pictures: Vqvae, codes: npt.NDArray[np.int32], found: npt.NDArray[np.uint8]) -> tuple[int, float]:
    """(largest difference of a pixel, of 255; share of sub-pixels that differ) from what eager PyTorch decodes.

    Raises:
        ParityError: pictures of another shape.
    """
    eager = decode(pictures, codes).astype(np.int16)
    if found.shape != eager.shape:
        raise ParityError(f"the engine gives pictures {list(found.shape)}: expected {list(eager.shape)}")
    difference = np.abs(eager - found)
    return int(difference.max()), float(np.count_nonzero(difference) / difference.size)


def prove_pictures(prior: Prior, pictures: Vqvae, engine: Engine, images: int = 8) -> PictureParity:
    """Hold the pictures of an engine against what eager PyTorch makes of the same codes.

    The codes are drawn, completed, and any at all, in turn.

    Raises:
        ParityError: a pixel differs by more than PIXEL_TOLERANCE; the message gives the numbers.
    """
    found = []
    for feed in feeds(prior.spec, images):
        result = engine.run(request_of(feed))
        if result.pictures is None:
            raise ParityError("the engine gives codes and no pictures")
        found.append(pixel_error(pictures, result.levels, result.pictures))
    return _parity(found, images)


def prove_decoder(prior: ModelSpec, pictures: Vqvae, decode_codes: Decode, images: int = 8) -> PictureParity:
    """The same of a decoder alone: of any codes at all, and of grids that have one code everywhere.

    Args:
        prior: over its codes.
        pictures: the eager VQ-VAE.
        decode_codes: runs the engine.
        images: pictures of each kind.

    Raises:
        ParityError: a pixel differs by more than PIXEL_TOLERANCE; the message gives the numbers.
    """
    any_codes = check_levels(prior.image_shape, prior.levels, images)
    one_code = np.empty_like(any_codes)
    one_code[:] = np.linspace(0, prior.levels - 1, images, dtype=np.int32)[:, None, None, None]
    return _parity([pixel_error(pictures, codes, decode_codes(codes)) for codes in (any_codes, one_code)], images)


def _parity(found: list[tuple[int, float]], images: int) -> PictureParity:
    worst = max(error for error, _ in found)
    if worst > PIXEL_TOLERANCE:
        raise ParityError(
            f"pictures differ from eager PyTorch's by up to {worst} of 255: expected at most {PIXEL_TOLERANCE}"
        )
    return PictureParity(
        images=images * len(found),
        differing_share=sum(share for _, share in found) / len(found),
        pixel_error=worst,
        pixel_tolerance=PIXEL_TOLERANCE,
    )


def check_pictures(spec: VqvaeSpec, images: int = 32, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Pictures uint8 [N, C, H, W] that a check runs on: black, white, flat patches and noise."""
    return check_levels(spec.image_shape, 256, images, seed).astype(np.uint8)


@torch.no_grad()
@full_precision()
def distance_error(pictures: Vqvae, images: npt.NDArray[np.uint8], codes: npt.NDArray[np.int32]) -> tuple[float, int]:
    """(how much further than the nearest vector one was that was taken, relative to the distance; codes that differ).

    Bottom codes are held against what eager PyTorch says knowing the engine's own top codes.

    Raises:
        ParityError: codes of another shape, or out of range.
    """
    spec = pictures.spec
    if codes.shape != (len(images), 1, *spec.grid) or codes.min() < 0 or codes.max() >= spec.codes:
        raise ParityError(f"the encoder gives codes {list(codes.shape)}, or out of range")
    found, (rows, columns) = torch.from_numpy(codes).long()[:, 0], spec.bottom
    features, above = pictures.encoder(as_numbers(images)), spec.grid[0] - rows
    if not above:
        return _further(pictures.vectors(features), found, pictures.codebook)
    top = found[:, :above].reshape(-1, rows // 2, columns // 2)
    u = pictures.from_top(vectors_of(top, pictures.top_codebook))
    of_top = _further(pictures.top_vectors(features), top, pictures.top_codebook)
    of_bottom = _further(pictures.vectors(features, u), found[:, above:], pictures.codebook)
    return max(of_top[0], of_bottom[0]), of_top[1] + of_bottom[1]


def _further(vectors_NDhw: torch.Tensor, codes_Nhw: torch.Tensor, codebook: torch.Tensor) -> tuple[float, int]:
    """What `distance_error` says, of the codes of one level."""
    vectors = vectors_NDhw.permute(0, 2, 3, 1)
    distances = torch.cdist(vectors.reshape(-1, codebook.shape[1]), codebook).view(*vectors.shape[:3], -1)
    taken = distances.gather(3, codes_Nhw[..., None])[..., 0]
    least, nearest = distances.min(3)
    return float(((taken - least) / least.clamp(min=1e-6)).max()), int((codes_Nhw != nearest).sum())


def prove_codes(pictures: Vqvae, encode: Encode) -> CodesParity:
    """Hold the codes of an encoder engine against the distances that eager PyTorch finds.

    Raises:
        ParityError: a vector was taken that is not the nearest, beyond DISTANCE_TOLERANCE; the message says how far.
    """
    images = check_pictures(pictures.spec)
    codes = encode(images)
    error, differing = distance_error(pictures, images, codes)
    if not error <= DISTANCE_TOLERANCE:
        raise ParityError(
            f"a code's vector is further than the nearest by {error:.2e} of the distance: expected at most "
            f"{DISTANCE_TOLERANCE:.0e}"
        )
    return CodesParity(
        images=len(images),
        codes=codes.size,
        near_ties=differing,
        distance_error=error,
        distance_tolerance=DISTANCE_TOLERANCE,
    )
