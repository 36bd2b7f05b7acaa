"""Complete pictures: keep some pixels, draw the rest several times, rank what comes out.

A pixel is drawn from those before it in raster order, p(x_i | x_<i). Known pixels below a gap therefore cannot guide
what is drawn into it. Of many candidates, though, some fit them: those beside which the known pixels are likely. That
likelihood is p(image) / p(what was drawn | what came before it), the importance weight of a candidate.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.pictures.levels import compact, grid, pixels_from_levels
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.text import counted, spanned
from gpcnn_runtime.conditions import check_conditions
from gpcnn_runtime.engines.base import Strategy
from gpcnn_runtime.sampler import MAX_IMAGES, Labels, Sampler
from gpcnn_runtime.samples import Samples

RankBy = Literal["image", "known"]
"""What the best completion is: the most likely image, or the one that fits the known pixels best."""

COUNT = 4
SHEET_COLUMNS = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Completions(Samples):
    """Completions of one image, the best first; the attributes of `Samples`, and these.

    `positions` are noise streams: `sampler.sample(label, seed, first=position, known=…, mask=…)` draws one again.

    Attributes:
        original: uint8 [C, H, W], the levels that were handed in; uint16 of more than 256 levels.
        mask: bool [C, H, W]; true was kept.
        drawn: how many images were drawn, of which these are the best.
        rank_by: what the best are.
        picture: of a VQ-VAE, whose levels are codes, the picture that was handed in: uint8 [C, H, W]; else None.
        kept: which of its pixels were kept: bool [C, H, W]; else None.
    """

    original: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    mask: npt.NDArray[np.bool_]
    drawn: int
    rank_by: RankBy
    picture: npt.NDArray[np.uint8] | None = dataclasses.field(default=None, kw_only=True)
    kept: npt.NDArray[np.bool_] | None = dataclasses.field(default=None, kw_only=True)

    def of_picture(self, picture: npt.NDArray[np.uint8], kept: npt.NDArray[np.bool_]) -> Completions:
        """The same as completions of a picture uint8 [C, H, W], whose kept pixels (bool [H, W]) are its own."""
        assert self.pictures is not None
        mask = np.array(np.broadcast_to(kept, picture.shape))
        return dataclasses.replace(
            self, picture=picture, kept=mask, pictures=np.where(mask, picture, self.pictures).astype(np.uint8)
        )

    def original_pixels(self) -> npt.NDArray[np.uint8]:
        """What was handed in: uint8 [C, H, W]."""
        return pixels_from_levels(self.original, self.depth) if self.picture is None else self.picture

    def known_log_likelihood(self) -> npt.NDArray[np.float64]:
        """Log-probability of the known pixels alone, given what was drawn before each: float64 [N], nats."""
        return _known_nats(self, self.mask)

    def distinct(self) -> int:
        """How many of the completions differ."""
        return len({image.tobytes() for image in self.levels})

    def guided(self) -> bool:
        """Whether all that is known comes before all that was drawn, so that it guided every pixel of it."""
        return known_first(self.mask)

    def masked(self) -> npt.NDArray[np.uint8]:
        """Pixels of the original with what was drawn hatched in two greys: uint8 [C, H, W]."""
        mask = self.mask if self.kept is None else self.kept
        rows, columns = np.indices(mask.shape[1:])
        hatch = np.where((rows + columns) % 3 == 0, 176, 112)
        return np.where(mask, self.original_pixels(), hatch).astype(np.uint8)

    def sheet(self) -> npt.NDArray[np.uint8]:
        """The original, the masked and the completions, in reading order.

        Returns:
            uint8 [rows, columns] for grey, [rows, columns, 3] for colour.
        """
        original = self.original_pixels()
        return grid(np.concatenate([original[None], self.masked()[None], self.pixels()]), sheet_columns(len(self)))


def known_first(mask_CHW: npt.NDArray[np.bool_]) -> bool:
    """Whether every pixel that is kept comes, in raster and channel order, before every one that is drawn."""
    order_HWC = mask_CHW.transpose(1, 2, 0).ravel()
    return bool(order_HWC[: int(order_HWC.sum())].all())


def sheet_columns(count: int) -> int:
    """Images beside each other on the sheet of so many completions: as square as possible beyond one row."""
    return max(SHEET_COLUMNS, math.isqrt(count + 2))


def complete(
    sampler: Sampler,
    levels: npt.ArrayLike,
    mask: npt.ArrayLike,
    *,
    labels: Labels | None = None,
    embedding: npt.ArrayLike | None = None,
    count: int = COUNT,
    candidates: int = 1,
    seed: int = 0,
    temperature: float = 1.0,
    rank_by: RankBy = "image",
    strategy: Strategy = "jacobi",
    progress: Callable[[int], object] = lambda images: None,
    map: npt.ArrayLike | None = None,
) -> Completions:
    """Draw `count` · `candidates` completions of an image and keep the `count` best of them.

    Where several labels are possible, the one under which the known pixels are most likely is taken. If they all come
    before what is drawn, this is the label with the highest posterior, and the completions are those of that label. If
    not, each candidate is drawn under all M labels, and the known pixels beside it choose among them: candidate k under
    label j of M has noise stream k · M + j; otherwise it is k. What is drawn has no say in the choice of a label, since
    the emptiest image would win it.

    More candidates of the same seed never make the best of them worse. Equal images keep the order in which they were
    drawn, up to rounding.

    Args:
        levels: the image, integer [C, H, W], each in [0, K).
        mask: bool [C, H, W] or [H, W]: true keeps the image's pixel, false draws it.
        labels: the labels that are possible, for a model with labels; None: all of them, each as likely before.
        embedding: float [E] for a model with embeddings.
        count: completions returned.
        candidates: completions drawn for each one returned.
        seed: of the noise.
        temperature: divides the logits before drawing; likelihoods are the model's own (temperature 1) always.
        rank_by: `image` takes the most likely images as a whole, which tend to be empty ones; `known` those beside
            which the known pixels are most likely, so that what is drawn must fit them.
        strategy: schedule of a step engine.
        progress: called with the number of images drawn since the last call.
        map: [P, h, w] for a model with maps, as of `Sampler.sample`.

    Raises:
        UsageError: an argument is out of range, of the wrong shape, or does not fit the model; the mask keeps all
            pixels, or none; or nothing known comes after what is drawn, and so nothing ranks by it.
        EngineError: as `Sampler.sample`.
    """
    begin = time.perf_counter()
    metadata = sampler.metadata
    spec = metadata.spec
    original, kept = _image(spec, levels), _mask(spec, mask)
    if labels is None and spec.conditioning == "label":
        labels = range(spec.conditioning_size)
    checked = check_conditions(metadata, labels, seed, count, temperature, original, kept, embedding, map=map)
    if candidates < 1:
        raise UsageError(f"candidates is {candidates}: expected at least 1")
    if rank_by not in get_args(RankBy):
        raise UsageError(f"rank_by is '{rank_by}': expected one of {', '.join(get_args(RankBy))}")
    if rank_by == "known" and known_first(kept):
        raise UsageError("everything known comes before what is drawn, and is equally likely beside it: rank by image")
    if checked.embedding is not None and len(checked.embedding) > 1:
        raise UsageError(f"{counted(len(checked.embedding), 'embedding')}: an image is completed under one")
    if checked.map is not None and len(checked.map) > 1:
        raise UsageError(f"{counted(len(checked.map), 'map')}: an image is completed under one")
    possible = None if checked.label is None else list(dict.fromkeys(checked.label.tolist()))
    if possible is not None and len(possible) > 1 and known_first(kept):
        scored = sampler.sample(possible, seed, known=original, mask=kept, strategy=strategy)
        possible = [possible[int(_known_nats(scored, kept).argmax())]]
    options = 1 if possible is None else len(possible)
    total = count * candidates * options
    if total > MAX_IMAGES:
        raise UsageError(f"{counted(total, 'image')} in one call: expected at most 2**63 - 1")

    best: Samples | None = None
    # A few parts for each thread at a time: the memory that candidates take has a bound, however many there are.
    block = max(1, 4 * sampler.threads * sampler.batch_size // options)
    for start in range(0, count * candidates, block):
        k = min(block, count * candidates - start)
        drawn = sampler.sample(
            None if possible is None else possible * k,
            seed,
            k if possible is None else 1,
            temperature=temperature,
            known=original,
            mask=kept,
            embedding=embedding,
            first=start * options,
            strategy=strategy,
            map=map,
        )
        winners = _known_nats(drawn, kept).reshape(k, options).argmax(axis=1) + np.arange(k) * options
        both = _joined(best, _take(drawn, winners, start * options))
        value = both.log_likelihood() if rank_by == "image" else _known_nats(both, kept)
        best = _take(both, np.argsort(-value, kind="stable")[:count])
        progress(k * options)
    assert best is not None
    ranked = dataclasses.replace(best, seconds=time.perf_counter() - begin)
    fields = {field.name: getattr(ranked, field.name) for field in dataclasses.fields(Samples)}
    return Completions(**fields, original=original, mask=kept, drawn=total, rank_by=rank_by)


def _known_nats(samples: Samples, kept_CHW: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Log-probability of what is known alone, in each image given what was drawn before it: float64 [N], nats."""
    nats: npt.NDArray[np.float64] = samples.log_prob.sum(axis=(1, 2, 3), dtype=np.float64, where=kept_CHW)
    return nats


def _take(samples: Samples, rows: npt.NDArray[np.intp], first: int = 0) -> Samples:
    """Some of the images, with their noise streams for positions."""
    return dataclasses.replace(
        samples,
        levels=samples.levels[rows],
        log_prob=samples.log_prob[rows],
        labels=None if samples.labels is None else samples.labels[rows],
        positions=samples.positions[rows] + first,
        pictures=None if samples.pictures is None else samples.pictures[rows],
    )


def _joined(before: Samples | None, new: Samples) -> Samples:
    if before is None:
        return new
    labels, evaluations = None, None
    if before.labels is not None and new.labels is not None:
        labels = np.concatenate([before.labels, new.labels])
    if before.evaluations is not None and new.evaluations is not None:
        evaluations = before.evaluations + new.evaluations
    pictures = None
    if before.pictures is not None and new.pictures is not None:
        pictures = np.concatenate([before.pictures, new.pictures])
    return dataclasses.replace(
        new,
        pictures=pictures,
        levels=np.concatenate([before.levels, new.levels]),
        log_prob=np.concatenate([before.log_prob, new.log_prob]),
        labels=labels,
        positions=np.concatenate([before.positions, new.positions]),
        evaluations=evaluations,
    )


def _image(spec: ModelSpec, levels: npt.ArrayLike) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    image = np.asarray(levels)
    if image.shape != spec.image_shape:
        raise UsageError(f"levels has shape {list(image.shape)}: expected {list(spec.image_shape)}")
    if image.dtype.kind not in "iu":
        raise UsageError(f"levels has dtype {image.dtype}: expected integers 0 to {spec.levels - 1}")
    if image.min() < 0 or image.max() >= spec.levels:
        raise UsageError(f"levels holds {spanned(image.min(), image.max())}: expected 0 to {spec.levels - 1}")
    return compact(image, spec.levels)


def _mask(spec: ModelSpec, mask: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    kept = np.asarray(mask)
    if kept.shape not in (spec.image_shape, spec.image_shape[1:]):
        c, h, w = spec.image_shape
        raise UsageError(f"mask has shape {list(kept.shape)}: expected [{c}, {h}, {w}] or [{h}, {w}]")
    if kept.dtype != np.bool_:
        raise UsageError(f"mask has dtype {kept.dtype}: expected bool, true to keep a pixel")
    if kept.all():
        raise UsageError("the mask keeps every pixel: nothing is left to draw")
    if not kept.any():
        raise UsageError("the mask keeps no pixel: nothing of the picture would be left")
    return np.array(np.broadcast_to(kept, spec.image_shape))
