"""What `gpcnn-sample --json` tells: what was drawn, and what drew it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_runtime.engines.report import EngineReport

if TYPE_CHECKING:
    from gpcnn_runtime.completions import Completions
    from gpcnn_runtime.samples import Samples


class ImageReport(msgspec.Struct, frozen=True, kw_only=True):
    """One image.

    Attributes:
        rank: 1 for the most likely; None where images are not ranked.
        position: number of its noise stream.
        label: None for a model without labels.
        class_name: of the label.
        nats: -log p of the image under the model at temperature 1: smaller is likelier.
        levels_sha256: SHA-256 of its levels, one byte a sub-pixel (two of more than 256 levels), [C, H, W] in C order:
            equal images have equal ones.
        known_nats: of completions, what the known pixels alone add to it.
    """

    rank: int | None = None
    position: int
    label: int | None
    class_name: str | None
    nats: float
    levels_sha256: str
    known_nats: float | None = None


class CompletionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was completed.

    Attributes:
        picture: the file.
        kept_pixels: how many of its H · W pixels stayed.
        guided: false if some of them come after a drawn one in raster order, and so could not guide it.
        candidates: completions drawn for each one kept.
        rank_by: `image` or `known`: by which nats they are ranked.
        drawn: images drawn in all, under all labels.
    """

    picture: str
    kept_pixels: int
    guided: bool
    candidates: int
    rank_by: str
    drawn: int


class SampleReport(msgspec.Struct, frozen=True, kw_only=True):
    """One run of `gpcnn-sample`.

    Attributes:
        output: the file or folder written.
        output_format: `grid`, `png` or `npz`.
        engine: what drew.
        labels: labels asked for, in order; None for a model without labels.
        like: pictures whose codes were drawn from, in order; None where none were.
        embeddings: files whose vectors were drawn from, in order; None where none were.
        maps: files whose maps were drawn from, in order; None where none were.
        upscale: small pictures that were enlarged, in order; None where none were.
        interpolate: ways between two ends, in order; None where none were. Way k has the images at positions k · count
            on, which share noise stream k.
        count: images of each label, picture, embedding or way; completions shown. Position p belongs to number
            p // count of them.
        seed: of the noise.
        temperature: divided the logits.
        positions: (start, stop) of the part that was asked for; None for all.
        drawn_before: images that an earlier run of the same job had drawn.
        seconds: that drawing took.
        ms_per_image: of those drawn; None where none was.
        images: those drawn by this run, in order of position or rank.
        completion: None where whole images were drawn.
    """

    output: str
    output_format: str
    engine: EngineReport
    labels: tuple[int, ...] | None
    like: tuple[str, ...] | None = None
    embeddings: tuple[str, ...] | None = None
    maps: tuple[str, ...] | None = None
    upscale: tuple[str, ...] | None = None
    interpolate: tuple[str, ...] | None = None
    count: int
    seed: int
    temperature: float
    positions: tuple[int, int] | None = None
    drawn_before: int
    seconds: float
    ms_per_image: float | None
    images: tuple[ImageReport, ...]
    completion: CompletionReport | None = None


def image_reports(metadata: EngineMetadata, samples: Samples) -> Iterator[ImageReport]:
    """One for each image."""
    for k, (position, log_prob) in enumerate(
        zip(samples.positions.tolist(), samples.log_likelihood().tolist(), strict=True)
    ):
        label = None if samples.labels is None else int(samples.labels[k])
        yield ImageReport(
            position=position,
            label=label,
            class_name=None if label is None else metadata.class_names[label],
            nats=-log_prob,
            levels_sha256=hashlib.sha256(samples.levels[k].tobytes()).hexdigest(),
        )


def ranked_reports(metadata: EngineMetadata, completions: Completions) -> Iterator[ImageReport]:
    """One for each completion, the best first."""
    known = (-completions.known_log_likelihood()).tolist()
    for k, report in enumerate(image_reports(metadata, completions)):
        yield msgspec.structs.replace(report, rank=k + 1, known_nats=known[k])
