"""How `gpcnn-verify` and its judge talk: the runtime feeds the engine, eager PyTorch judges, neither imports the other.

In a folder for the two of them, the runtime writes `job.json` (a `VerifyJob`) and runs

    python -m gpcnn_export.commands.verify.judge prepare FOLDER

which writes what to feed the engine into `request.npz` and prints a `Prepared` as one line of JSON. The runtime writes
what the engine made of it into `drawn.npz` and runs

    python -m gpcnn_export.commands.verify.judge judge FOLDER

which prints a `Verdict`. The arrays of `request.npz` are, for each kind of INPUTS, `KIND.noise`, `KIND.known`,
`KIND.mask`, `KIND.temperature` and `KIND.label`, `KIND.embedding` or `KIND.map`, named and shaped as the inputs of an
engine; and, where there are real images, `data.levels` int32 [M, C, H, W] and `data.label`, `data.embedding` or
`data.map`. Those of `drawn.npz` are `KIND.STRATEGY.image` int32 and `KIND.STRATEGY.log_prob` float32 [n, C, H, W], of
the first n inputs of that kind, and `data.log_prob` float32 [M, C, H, W]. For an encoder, the one has `encoder.image`
int32 [n, C, H, W], the other `encoder.embedding` float32 [n, E]. Of a VQ-VAE, whose levels are codes, `drawn.npz` also
has `KIND.STRATEGY.picture` uint8, and its encoder's arrays are `encoder.picture` uint8 [n, C, H, W] and
`encoder.codes` int32 [n, 1, h, w].
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gpcnn_deploy.metadata import Precision
from gpcnn_deploy.spec import ModelSpec, VqvaeSpec

JUDGE_MODULE = "gpcnn_export.commands.verify.judge"

Inputs = Literal["samples", "completions", "scores"]
INPUTS: tuple[Inputs, ...] = ("samples", "completions", "scores")
"""Nothing known; half of the sub-pixels known, at another temperature; everything known. In the order of a check."""

Cause = Literal["near-tie", "rounding", "defect"]


class VerifyJob(msgspec.Struct, frozen=True, kw_only=True):
    """What to judge.

    Attributes:
        checkpoint: path of the checkpoint, or of a run folder that holds one.
        spec, class_names, precision, checkpoint_digest: of the engine's metadata.
        encoder: the engine names an encoder, which is beside it.
        images: inputs of each kind.
        seed: of their noise.
        data: name or path of a data set; None takes the checkpoint's own, if it can be had without a download.
        data_dir: folder that holds the files of a published data set; None looks into the cache of downloads.
        test_images: most test images to score.
        vqvae: of the engine's metadata.
    """

    checkpoint: str
    spec: ModelSpec
    class_names: tuple[str, ...]
    precision: Precision
    checkpoint_digest: str
    encoder: bool
    images: int
    seed: int
    data: str | None
    data_dir: str | None
    test_images: int
    vqvae: VqvaeSpec | None = None


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What `request.npz` holds.

    Attributes:
        data: name of the data set; None without real images.
        data_images: how many.
        data_skipped: why there are none; None where there are.
    """

    data: str | None
    data_images: int
    data_skipped: str | None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is held to, or what it reached; None is no limit, or no finite number.

    Attributes:
        near_tie: largest distance of u from the step of the CDF that explains another level than eager PyTorch's.
        log_prob: largest difference of log-probabilities, in nats per sub-pixel.
        agreement: smallest share of all drawn sub-pixels that are eager PyTorch's given the engine's own before them.
        drift: largest difference of the negative log-likelihood of real images, and of the engine's samples, in bits a
            dimension.
    """

    near_tie: float | None
    log_prob: float | None
    agreement: float | None = None
    drift: float | None = None


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Images of one kind of inputs, drawn by one strategy.

    Attributes:
        inputs: the kind.
        strategy: `graph` (a sampler's schedule is in its graph), `window W` for each of two windows in it, `native, one
            by one` and `native, in batches` (a model file), `jacobi` or `raster`.
        images: images compared.
        identical: images that are eager PyTorch's in every sub-pixel.
        explained: images that part from eager PyTorch's only where u is within `Limits.near_tie` of a step of the CDF.
        agreement: share of the drawn sub-pixels that are eager PyTorch's given the engine's own before them; None
            where nothing was drawn.
        log_prob_error: largest absolute difference of log-probabilities, in nats per sub-pixel; None where one is not
            finite.
        drift: difference of the mean negative log-likelihood, engine minus eager PyTorch, in bits a dimension; None as
            before.
    """

    inputs: Inputs
    strategy: str
    images: int
    identical: int
    explained: int
    agreement: float | None = None
    log_prob_error: float | None = None
    drift: float | None = None


class FirstDivergence(msgspec.Struct, frozen=True, kw_only=True):
    """The first sub-pixel, in raster and channel order, where an image of the engine and eager PyTorch part.

    Of several such images the first that is no near-tie, or else the first.

    Attributes:
        cause: `near-tie` (u is within rounding of the CDF step), `rounding` (further off, but within what the engine's
            precision is held to) or `defect`.
        inputs, strategy, image: which image.
        row, column, channel: the sub-pixel.
        engine, eager: the levels drawn.
        u: the noise there.
        cdf_step: the step of eager PyTorch's CDF that u would have to pass for the engine's level.
        distance: of u from that step.
        worst: the largest such distance in the whole image, each sub-pixel given the engine's own ones before it.
    """

    cause: Cause
    inputs: Inputs
    strategy: str
    image: int
    row: int
    column: int
    channel: int
    engine: int
    eager: int
    u: float
    cdf_step: float
    distance: float
    worst: float

    def __str__(self) -> str:
        return (
            f"{self.cause} in {self.inputs} ({self.strategy}), image {self.image}, row {self.row}, column "
            f"{self.column}, channel {self.channel}: the engine drew {self.engine}, eager PyTorch {self.eager}; "
            f"u = {self.u:.9f}, CDF step {self.cdf_step:.9f}, {self.distance:.2e} apart (at worst {self.worst:.2e} in "
            "this image)"
        )


class RealData(msgspec.Struct, frozen=True, kw_only=True):
    """Likelihood of real images, on the engine and on eager PyTorch.

    Attributes:
        name: of the data set.
        images: test images scored.
        engine_nll, eager_nll: mean negative log-likelihood, in nats an image; None where it is not finite.
        drift: their difference, engine minus eager, in bits a dimension.
        log_prob_error: largest absolute difference of log-probabilities, in nats per sub-pixel.
    """

    name: str
    images: int
    engine_nll: float | None
    eager_nll: float | None
    drift: float | None
    log_prob_error: float | None


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """Embeddings of pictures, by the encoder beside the engine and by eager PyTorch.

    Attributes:
        images: pictures compared.
        error: largest difference of a number of their embeddings, relative to the largest of its embedding if that
            exceeds 1; None where it is not finite.
        limit: what `error` was held to.
    """

    images: int
    error: float | None
    limit: float


class Pictured(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures of a VQ-VAE's codes, by the engine and by eager PyTorch.

    Attributes:
        images: pictures compared.
        error: largest difference of a pixel, of 255.
        limit: what `error` was held to.
        differing_share: share of sub-pixels that differ.
    """

    images: int
    error: int
    limit: int
    differing_share: float


class Coded(msgspec.Struct, frozen=True, kw_only=True):
    """Codes of pictures, by the encoder beside the engine and by eager PyTorch.

    Attributes:
        images: pictures compared.
        codes: codes compared.
        differing: how many differ, their vectors being as near as `limit` says.
        error: how much further than the nearest vector one was that was taken, relative to the distance.
        limit: what `error` was held to.
    """

    images: int
    codes: int
    differing: int
    error: float
    limit: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the judge found.

    Attributes:
        proven: the engine is the checkpoint's model, within `limits`, and says so itself: no `failures`.
        failures: what is wrong, one line each.
        checkpoint: path of the checkpoint.
        checkpoint_digest: its SHA-256.
        engine_checkpoint_digest: the one that the engine names as its origin.
        same_checkpoint: they are equal.
        library: name and version of what judged, for example `PyTorch 2.13.0`.
        rows: what was compared.
        data: real images; None where there were none.
        data_skipped: why there were none.
        encoder: the encoder beside the engine; None without one.
        first_divergence: None where all images are identical.
        limits: what the engine was held to.
        reached: what it reached: limits that would pass it.
        pictures: of a VQ-VAE, the pictures; None for other models.
        codes: of a VQ-VAE, the encoder beside the engine; None without one.
    """

    proven: bool
    failures: tuple[str, ...]
    checkpoint: str
    checkpoint_digest: str
    engine_checkpoint_digest: str
    same_checkpoint: bool
    library: str
    rows: tuple[Compared, ...]
    data: RealData | None
    data_skipped: str | None
    encoder: Embedded | None
    first_divergence: FirstDivergence | None
    limits: Limits
    reached: Limits
    pictures: Pictured | None = None
    codes: Coded | None = None
