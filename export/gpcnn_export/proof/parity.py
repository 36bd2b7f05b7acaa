"""The proof that an engine draws what eager PyTorch draws.

One evaluation of the eager network at the engine's image shows that the image is what the naive raster loop draws, or
where the two part (`gpcnn_training.divergence`): that is allowed only at a near-tie, proven with its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gpcnn_deploy.errors import ParityError
from gpcnn_deploy.metadata import ParityReport
from gpcnn_deploy.philox import noise as draw_noise
from gpcnn_deploy.pictures.maps import some_maps
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.text import spanned
from gpcnn_runtime.engines.base import Engine, Request, Strategy
from gpcnn_training.conditionals import conditionals
from gpcnn_training.divergence import NEAR_TIE, Divergence, first_divergences
from gpcnn_training.network import Network

Array = npt.NDArray[Any]
Feed = dict[str, Array]
Draw = Callable[[Feed], tuple[Array, Array]]

LOG_PROB_TOLERANCE = 3e-4
"""Largest difference of log-probabilities, nats per sub-pixel.

Trained for long, a network has large activations on noise, which some checks score, and rounding grows with them: of
MNIST's models after 12,500 steps of Muon, the native engine was 6e-5 to 1.1e-4 from eager PyTorch.

Narrow logistics amplify rounding: their differences are counted as `Conditionals.log_prob_error` says."""

_LOGITS_AT_ONCE = 4_000_000
_IMAGES_AT_ONCE = 64


@dataclass(frozen=True)
class Comparison:
    """What one batch showed.

    Attributes:
        images: images compared.
        divergences: one per differing image.
        log_prob_error: largest absolute difference of log-probabilities, in nats per sub-pixel.
        drawn: sub-pixels that were drawn, not known.
        agreeing: how many of those eager PyTorch draws too, given the engine's own sub-pixels before them.
        engine_nats, eager_nats: log-probability of all images together.
    """

    images: int
    divergences: tuple[Divergence, ...]
    log_prob_error: float
    drawn: int
    agreeing: int
    engine_nats: float
    eager_nats: float


@torch.no_grad()
def compare(model: Network, feed: Mapping[str, Array], image: Array, log_prob: Array) -> Comparison:
    """Hold an engine's result against the eager model.

    Args:
        model: the eager model.
        feed: the inputs that the engine had: noise, known, mask, temperature, and label, embedding or map.
        image: the engine's levels, int [N, C, H, W].
        log_prob: the engine's log-probabilities, float [N, C, H, W].

    Raises:
        ParityError: levels out of range, or a known sub-pixel that was not kept.
    """
    spec = model.spec
    if image.min() < 0 or image.max() >= spec.levels:
        raise ParityError(
            f"the engine drew levels {spanned(image.min(), image.max())}: expected 0 to {spec.levels - 1}"
        )
    if not np.array_equal(image[feed["mask"]], feed["known"][feed["mask"]]):
        raise ParityError("the engine changed known sub-pixels")
    levels, u = torch.from_numpy(image), torch.from_numpy(feed["noise"])
    temperature = torch.from_numpy(feed["temperature"])
    condition = torch.from_numpy(feed[spec.conditioning]) if spec.conditioning != "none" else None
    mask = torch.from_numpy(feed["mask"])
    given = conditionals(spec, model(levels, condition), levels)
    divergences = first_divergences(given, levels, u, mask, temperature)
    eager_log_prob, engine_log_prob = given.log_probability(levels), torch.from_numpy(log_prob)
    return Comparison(
        images=len(image),
        divergences=divergences,
        log_prob_error=given.log_prob_error(levels, engine_log_prob).max().item(),
        drawn=int((~mask).sum()),
        agreeing=int(((given.inverse_cdf(u, temperature) == levels) & ~mask).sum()),
        engine_nats=float(engine_log_prob.double().sum()),
        eager_nats=float(eager_log_prob.double().sum()),
    )


def compare_in_parts(model: Network, feed: Feed, image: Array, log_prob: Array) -> Comparison:
    """`compare` of the first images of a feed, however many, in bounded memory.

    Raises:
        ParityError: as `compare`.
    """
    spec = model.spec
    step = max(1, min(_IMAGES_AT_ONCE, _LOGITS_AT_ONCE // (spec.head_outputs * spec.height * spec.width)))
    found = []
    for start in range(0, len(image), step):
        part = slice(start, min(start + step, len(image)))
        fed = {name: array[part] if array.ndim else array for name, array in feed.items()}
        one = compare(model, fed, image[part], log_prob[part])
        moved = tuple(replace(divergence, image=divergence.image + start) for divergence in one.divergences)
        found.append(replace(one, divergences=moved))
    return Comparison(
        images=len(image),
        divergences=tuple(divergence for one in found for divergence in one.divergences),
        log_prob_error=float(np.max([one.log_prob_error for one in found])),  # NaN stays NaN
        drawn=sum(one.drawn for one in found),
        agreeing=sum(one.agreeing for one in found),
        engine_nats=math.fsum(one.engine_nats for one in found),
        eager_nats=math.fsum(one.eager_nats for one in found),
    )


def feeds(spec: ModelSpec, images: int, seed: int = 0) -> list[Feed]:
    """Inputs that a check runs: plain samples, completions at another temperature, and images that are all known."""
    result = []
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, 2**64 - 1], np.uint64)))
    for temperature, known_share in ((1.0, 0.0), (0.75, 0.5), (1.0, 1.0)):
        u = draw_noise(spec, seed, images)
        feed: Feed = {
            "noise": u,
            "known": rng.integers(0, spec.levels, u.shape, np.int32),
            "mask": rng.random(u.shape) < known_share,
            "temperature": np.array(temperature, np.float32),
        }
        if spec.conditioning == "label":
            first = seed % spec.conditioning_size
            feed["label"] = ((np.arange(images) + first) % spec.conditioning_size).astype(np.int32)
        elif spec.conditioning == "embedding":
            feed["embedding"] = rng.standard_normal((images, spec.conditioning_size), np.float32)
        elif spec.conditioning == "map":
            feed["map"] = some_maps(spec, images, rng)
        result.append(feed)
    return result


def prove(model: Network, draw: Draw, batches: Sequence[int] = (8,)) -> ParityReport:
    """Run an engine on plain samples and completions, and hold the results against eager PyTorch.

    Args:
        model: the eager model, in eval mode.
        draw: feeds the engine and returns (image, log_prob).
        batches: images of each call; every kind of input is run once with each.

    Raises:
        ParityError: an image differs beyond a proven near-tie, or log-probabilities beyond LOG_PROB_TOLERANCE; the
            message gives the numbers and the tolerance that would pass.
    """
    given = [feed for seed, images in enumerate(batches) for feed in feeds(model.spec, images, seed)]
    comparisons = [compare_in_parts(model, feed, *draw(feed)) for feed in given]
    divergences = [divergence for comparison in comparisons for divergence in comparison.divergences]
    for divergence in divergences:
        if not divergence.worst <= NEAR_TIE:
            raise ParityError(f"the engine is not the trained model: {divergence}, more than {NEAR_TIE:.0e}")
    error = float(np.max([comparison.log_prob_error for comparison in comparisons]))  # NaN stays NaN
    if not error <= LOG_PROB_TOLERANCE:
        raise ParityError(
            f"log-probabilities differ from eager PyTorch by up to {error:.2e} nats per sub-pixel: expected at most "
            f"{LOG_PROB_TOLERANCE:.0e}"
        )
    total = sum(comparison.images for comparison in comparisons)
    return ParityReport(
        images=total,
        identical=total - len(divergences),
        near_ties=len(divergences),
        log_prob_error=error,
        log_prob_tolerance=LOG_PROB_TOLERANCE,
    )


def request_of(feed: Feed) -> Request:
    """The inputs of a graph as the runtime's engines take them."""
    arrays: dict[str, Any] = {name: np.ascontiguousarray(array) for name, array in feed.items()}
    return Request(**{**arrays, "temperature": float(feed["temperature"])})


def draw_on(engine: Engine, strategy: Strategy = "jacobi") -> Draw:
    """Run an engine of the runtime, as its users do."""

    def draw(feed: Feed) -> tuple[Array, Array]:
        result = engine.run(request_of(feed), strategy)
        return result.levels, result.log_prob

    return draw
