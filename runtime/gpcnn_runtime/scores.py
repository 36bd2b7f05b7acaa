"""How likely pictures are under a model: in nats, in bits a dimension, under every label, and pixel by pixel.

Shape legend: N images, C channels, H rows, W columns, K levels, M labels.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.pictures.levels import levels_from_pixels
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.text import counted
from gpcnn_runtime.sampler import Sampler

Binarization = Literal["nearest", "stochastic"]


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """What a model thinks of N images.

    Attributes:
        nats: float64 [N], the negative log-likelihood -log p(x) of each image, in nats: smaller is likelier. Of a model
            with labels, and none given, p(x) is the mixture of all labels under a uniform prior.
        label_nats: float64 [N, M], -log p(x | label) under every label, in nats; None without labels or with one given.
        log_prob: float64 [N, C, H, W], nats: what each sub-pixel adds to log p(x), given those before it, so that
            `nats` is its negative sum; None if it was not asked for.
        subpixels: C · H · W.
    """

    nats: npt.NDArray[np.float64]
    label_nats: npt.NDArray[np.float64] | None
    log_prob: npt.NDArray[np.float64] | None
    subpixels: int

    def __len__(self) -> int:
        return len(self.nats)

    def bits_per_dim(self) -> npt.NDArray[np.float64]:
        """`nats` as bits a sub-pixel: float64 [N]."""
        return self.nats / (self.subpixels * math.log(2))

    def posterior(self) -> npt.NDArray[np.float64] | None:
        """p(label | x) under a uniform prior: float64 [N, M], each row's sum 1; None without `label_nats`."""
        if self.label_nats is None:
            return None
        return np.exp(-self.label_nats - _log_sum_exp(-self.label_nats)[:, None])


def score(
    sampler: Sampler,
    levels: npt.NDArray[Any],
    label: int | str | None = None,
    *,
    embedding: npt.NDArray[np.float32] | None = None,
    per_pixel: bool = False,
    map: npt.NDArray[Any] | None = None,
) -> Scores:
    """Score images.

    Args:
        sampler: the engine.
        levels: integer [N, C, H, W], each in [0, K).
        label: score under this label alone, by number or class name. Default: under all of them.
        embedding: float32 [N, E], for a model with embeddings: what each image is scored under.
        per_pixel: `Scores.log_prob`, too. Of a mixture, these are the terms of its own chain rule: how well the pixels
            before predicted this one, with all labels weighted by how well they did so far.
        map: [N, P, h, w], for a model with maps: what each image is scored under.

    Raises:
        UsageError: the levels do not fit, a label that the model does not have, or no embedding or map for one that
            needs it.
        EngineError: the engine failed.
    """
    if embedding is None and map is None:
        check_has_likelihood(sampler)
    spec, count = sampler.metadata.spec, len(levels)
    if spec.conditioning != "label" or label is not None:
        log_prob = sampler.score(levels, label, embedding=embedding, map=map).astype(np.float64)
        total = log_prob.sum(axis=(1, 2, 3))
        return Scores(-total, None, log_prob if per_pixel else None, spec.subpixels)
    labels = spec.conditioning_size
    totals = np.empty((count, labels))
    so_far = np.full((count, spec.subpixels), -np.inf)  # log Σ p(x_≤i | y) over the labels y seen, in raster order
    block = max(1, sampler.threads * sampler.batch_size // count)
    for start in range(0, labels, block):
        here = np.arange(start, min(start + block, labels))
        conditional = sampler.score(np.tile(levels, (len(here), 1, 1, 1)), here.repeat(count)).astype(np.float64)
        totals[:, here] = conditional.sum(axis=(1, 2, 3)).reshape(len(here), count).T
        if per_pixel:
            in_order = conditional.transpose(0, 2, 3, 1).reshape(len(here), count, spec.subpixels)
            so_far = np.logaddexp(so_far, _log_sum_exp(np.moveaxis(np.cumsum(in_order, axis=2), 0, 2)))
    log_prob_NCHW = None
    if per_pixel:  # log p(x_i | x_<i) = log Σ p(x_≤i | y) - log Σ p(x_<i | y)
        steps = np.diff(so_far, axis=1, prepend=math.log(labels))
        log_prob_NCHW = steps.reshape(count, spec.height, spec.width, spec.channels).transpose(0, 3, 1, 2)
    return Scores(math.log(labels) - _log_sum_exp(totals), -totals, log_prob_NCHW, spec.subpixels)


def check_has_likelihood(sampler: Sampler, background: bool = False) -> None:
    """Refuse models that need more than a picture to score it.

    Args:
        sampler: of the model.
        background: the model is one to compare with, which is given nothing but the picture.

    Raises:
        UsageError: the model is conditioned on embeddings or on maps.
    """
    conditioning = sampler.metadata.spec.conditioning
    if background and conditioning in ("embedding", "map"):
        what = "an embedding" if conditioning == "embedding" else "a map"
        raise UsageError(
            f"--background {sampler.engine.info.path}: is conditioned on {what}, and is given only the picture: name a "
            "model with labels or without conditioning"
        )
    if conditioning == "map":
        raise UsageError(
            f"{sampler.engine.info.path}: is conditioned on a map, without which it has no likelihood: give it with "
            "--map"
        )
    if conditioning == "embedding":
        raise UsageError(
            f"{sampler.engine.info.path}: is conditioned on an embedding, without which it has no likelihood: give it "
            "with --embeddings, or name a model with labels or without conditioning"
        )


def to_levels(
    pixels: npt.NDArray[np.uint8],
    spec: ModelSpec,
    binarization: Binarization = "nearest",
    seed: int = 0,
    number: int = 0,
) -> npt.NDArray[np.int32]:
    """Levels of a picture's pixels, [C, H, W], int32.

    Args:
        pixels: uint8 [C, H, W].
        spec: of the model.
        binarization: `nearest` level; or `stochastic`, for grey models with two levels, as they are trained: a pixel
            becomes 1 with probability value/255.
        seed: of that draw.
        number: of the picture; each has a stream of its own, Philox with key (seed, number).

    Raises:
        UsageError: stochastic binarization for another model, or a seed out of range.
    """
    if binarization == "nearest":
        return levels_from_pixels(pixels, spec.levels)
    if spec.levels != 2 or spec.channels != 1:
        raise UsageError(
            f"stochastic binarization is for grey models with 2 levels; this one has {spec.levels} levels and "
            f"{counted(spec.channels, 'channel')}: leave it out"
        )
    if not 0 <= seed < 2**64:
        raise UsageError(f"seed is {seed}: expected 0 to 2**64 - 1")
    stream = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
    return (stream.random(pixels.shape, np.float32) * np.float32(255) < pixels).astype(np.int32)


def _log_sum_exp(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Over the last axis."""
    most = values.max(axis=-1)
    total: npt.NDArray[np.float64] = most + np.log(np.exp(values - most[..., None]).sum(axis=-1))
    return total
