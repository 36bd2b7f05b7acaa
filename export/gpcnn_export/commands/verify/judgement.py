"""What `gpcnn-verify` concludes: an engine's images and log-probabilities against those of eager PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gpcnn_deploy.checkpoint_header import Header
from gpcnn_deploy.errors import ParityError
from gpcnn_deploy.metadata import Precision
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.text import counted
from gpcnn_deploy.units import Units, units_of
from gpcnn_export.commands.verify.protocol import (
    INPUTS,
    Coded,
    Compared,
    Embedded,
    FirstDivergence,
    Inputs,
    Limits,
    Pictured,
    Prepared,
    RealData,
    Verdict,
    VerifyJob,
)
from gpcnn_export.proof.encoder import EMBEDDING_TOLERANCE, embedding_error
from gpcnn_export.proof.parity import LOG_PROB_TOLERANCE, Comparison, Feed, compare_in_parts
from gpcnn_export.proof.pictures import DISTANCE_TOLERANCE, PIXEL_TOLERANCE, distance_error, pixel_error
from gpcnn_training.divergence import NEAR_TIE, Divergence
from gpcnn_training.network import Network
from gpcnn_training.vqvae_network import Vqvae

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(near_tie=NEAR_TIE, log_prob=LOG_PROB_TOLERANCE),
    # More than ten times what fp16 engines of trained models reach (docs/tools.md); another model is off by far more.
    "fp16": Limits(near_tie=5e-3, log_prob=0.05, agreement=0.99, drift=1e-3),
}


@dataclass(frozen=True)
class Case:
    """Images of one kind of inputs, drawn by one strategy: one comparison, or the error that made it impossible."""

    inputs: Inputs
    strategy: str
    images: int
    found: Comparison | None
    error: str | None = None


def judge(
    job: VerifyJob,
    prepared: Prepared,
    model: Network,
    header: Header,
    digest: str,
    request: Arrays,
    drawn: Arrays,
    pictures: Vqvae | None = None,
) -> Verdict:
    """Hold what the engine drew against eager PyTorch.

    Args:
        job: what was asked.
        prepared: what `request` holds.
        model, header, digest: the checkpoint's.
        request: what the engine was fed.
        drawn: what it drew.
        pictures: of a VQ-VAE, whose prior the model is: encoder, codebook and decoder.
    """
    limits = LIMITS[job.precision]
    failures = []
    if digest != job.checkpoint_digest:
        named = f"checkpoint {job.checkpoint_digest[:12]}…" if job.checkpoint_digest else "no checkpoint"
        failures.append(f"the engine names {named} as its origin, and this is {digest[:12]}…")
    if job.class_names != header.class_names:
        failures.append(
            f"the engine's classes are {list(job.class_names)}, the checkpoint's {list(header.class_names)}"
        )
    cases = [_case(model, request, drawn, key) for key in _keys(drawn)]
    failures += [f"{case.inputs} ({case.strategy}): {case.error}" for case in cases if case.error is not None]
    real = None if prepared.data is None else _real_data(prepared.data, model, request, drawn)
    rows = tuple(_row(model.spec, case, limits) for case in cases)
    reached = _reached(cases, rows, real)
    failures += _beyond(rows, limits, reached, units_of(pictures is not None))
    encoder = None
    shown = None if pictures is None else _pictured(pictures, drawn, failures)
    codes = None
    if job.encoder and pictures is not None:
        codes = _coded(pictures, request["encoder.picture"], drawn["encoder.codes"], failures)
    elif job.encoder and model.encoder is None:
        failures.append("the engine names an encoder, and the checkpoint has none")
    elif job.encoder:
        encoder = _embedded(model, request["encoder.image"], drawn["encoder.embedding"])
        if encoder.error is None or encoder.error > encoder.limit:
            error = "not finite" if encoder.error is None else f"{encoder.error:.2e}"
            failures.append(f"embeddings differ from eager PyTorch's by up to {error}, limit {encoder.limit:.0e}")
    return Verdict(
        proven=not failures,
        failures=tuple(failures),
        checkpoint=job.checkpoint,
        checkpoint_digest=digest,
        engine_checkpoint_digest=job.checkpoint_digest,
        same_checkpoint=digest == job.checkpoint_digest,
        library=f"PyTorch {torch.__version__}",
        rows=rows,
        data=real,
        data_skipped=prepared.data_skipped,
        encoder=encoder,
        first_divergence=_first_divergence(cases, limits),
        limits=limits,
        reached=reached,
        pictures=shown,
        codes=codes,
    )


def _pictured(pictures: Vqvae, drawn: Arrays, failures: list[str]) -> Pictured:
    """The engine's pictures against those that eager PyTorch decodes of the same codes."""
    found, images = [], 0
    for inputs, strategy in _keys(drawn):
        codes, shown = drawn[f"{inputs}.{strategy}.image"], drawn[f"{inputs}.{strategy}.picture"]
        found.append(pixel_error(pictures, codes, shown))
        images += len(codes)
    worst = max(error for error, _ in found)
    if worst > PIXEL_TOLERANCE:
        failures.append(f"pictures differ from eager PyTorch's by up to {worst} of 255, limit {PIXEL_TOLERANCE}")
    share = sum(share for _, share in found) / len(found)
    return Pictured(images=images, error=worst, limit=PIXEL_TOLERANCE, differing_share=share)


def _coded(pictures: Vqvae, images: Array, codes: Array, failures: list[str]) -> Coded:
    """The codes of the encoder beside the engine against the distances that eager PyTorch finds."""
    error, differing = distance_error(pictures, images, codes)
    if not error <= DISTANCE_TOLERANCE:
        failures.append(f"codes are of vectors further than the nearest by {error:.2e}, limit {DISTANCE_TOLERANCE:.0e}")
    return Coded(images=len(images), codes=codes.size, differing=differing, error=error, limit=DISTANCE_TOLERANCE)


def _keys(drawn: Arrays) -> list[tuple[Inputs, str]]:
    return [
        (inputs, key.split(".")[1])
        for inputs in INPUTS
        for key in drawn
        if key.startswith(f"{inputs}.") and key.endswith(".image")
    ]


def _case(model: Network, request: Arrays, drawn: Arrays, key: tuple[Inputs, str]) -> Case:
    inputs, strategy = key
    image, log_prob = drawn[f"{inputs}.{strategy}.image"], drawn[f"{inputs}.{strategy}.log_prob"]
    feed = {name.partition(".")[2]: request[name] for name in request if name.startswith(f"{inputs}.")}
    try:
        return Case(inputs, strategy, len(image), compare_in_parts(model, feed, image, log_prob))
    except ParityError as error:
        return Case(inputs, strategy, len(image), None, str(error))


def _real_data(name: str, model: Network, request: Arrays, drawn: Arrays) -> RealData:
    levels, log_prob = request["data.levels"], drawn["data.log_prob"]
    feed: Feed = {
        "noise": np.zeros(levels.shape, np.float32),
        "known": levels,
        "mask": np.ones(levels.shape, np.bool_),
        "temperature": np.array(1, np.float32),
    }
    conditioning = model.spec.conditioning
    if conditioning != "none":
        feed[conditioning] = request[f"data.{conditioning}"]
    found = compare_in_parts(model, feed, levels, log_prob)
    return RealData(
        name=name,
        images=found.images,
        engine_nll=_finite(-found.engine_nats / found.images),
        eager_nll=_finite(-found.eager_nats / found.images),
        drift=_drift(model.spec, found),
        log_prob_error=_finite(found.log_prob_error),
    )


@torch.no_grad()
def _embedded(model: Network, levels: Array, embedding: Array) -> Embedded:
    eager = model.embed(torch.from_numpy(levels)).numpy()
    error = _finite(embedding_error(eager, embedding))
    return Embedded(images=len(levels), error=error, limit=EMBEDDING_TOLERANCE)


def _row(spec: ModelSpec, case: Case, limits: Limits) -> Compared:
    found = case.found
    if found is None:
        return Compared(inputs=case.inputs, strategy=case.strategy, images=case.images, identical=0, explained=0)
    assert limits.near_tie is not None
    return Compared(
        inputs=case.inputs,
        strategy=case.strategy,
        images=case.images,
        identical=case.images - len(found.divergences),
        explained=sum(divergence.worst <= limits.near_tie for divergence in found.divergences),
        agreement=found.agreeing / found.drawn if found.drawn else None,
        log_prob_error=_finite(found.log_prob_error),
        drift=_drift(spec, found),
    )


def _drift(spec: ModelSpec, found: Comparison) -> float | None:
    """NLL of the engine minus that of eager PyTorch, in bits a dimension."""
    return _finite((found.eager_nats - found.engine_nats) / found.images / spec.subpixels / math.log(2))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _all_divergences(cases: list[Case]) -> Iterator[tuple[Case, Divergence]]:
    for case in cases:
        for divergence in case.found.divergences if case.found else ():
            yield case, divergence


def _first_divergence(cases: list[Case], limits: Limits) -> FirstDivergence | None:
    assert limits.near_tie is not None
    all_of_them = list(_all_divergences(cases))
    for least in (limits.near_tie, NEAR_TIE, -1.0):
        for case, d in all_of_them:
            if d.worst > least:
                return FirstDivergence(
                    cause="defect" if d.worst > limits.near_tie else "rounding" if d.worst > NEAR_TIE else "near-tie",
                    inputs=case.inputs,
                    strategy=case.strategy,
                    image=d.image,
                    row=d.row,
                    column=d.column,
                    channel=d.channel,
                    engine=d.engine,
                    eager=d.eager,
                    u=d.noise,
                    cdf_step=d.noise + d.margin if d.eager < d.engine else d.noise - d.margin,
                    distance=d.margin,
                    worst=d.worst,
                )
    return None


def _reached(cases: list[Case], rows: tuple[Compared, ...], real: RealData | None) -> Limits:
    """Limits that would pass this engine; None where no finite one would, or nothing could be compared."""
    measured = [row for case, row in zip(cases, rows, strict=True) if case.found is not None]
    errors = [row.log_prob_error for row in measured] + ([real.log_prob_error] if real else [])
    drifts = [row.drift for row in measured if row.inputs == "samples"] + ([real.drift] if real else [])
    drawn = sum(case.found.drawn for case in cases if case.found is not None)
    agreeing = sum(case.found.agreeing for case in cases if case.found is not None)
    return Limits(
        near_tie=max((divergence.worst for _, divergence in _all_divergences(cases)), default=0.0),
        log_prob=_largest(errors),
        agreement=agreeing / drawn if drawn else None,
        drift=_largest(drifts),
    )


def _largest(values: list[float | None]) -> float | None:
    finite = [abs(value) for value in values if value is not None]
    return max(finite) if finite and len(finite) == len(values) else None


def _beyond(rows: tuple[Compared, ...], limits: Limits, reached: Limits, units: Units) -> list[str]:
    lines = []
    defects = sum(row.images - row.identical - row.explained for row in rows)
    if defects:
        images = sum(row.images for row in rows)
        lines.append(f"not eager PyTorch's: {defects} of {counted(images, 'image')}, and no rounding error explains it")
    if reached.log_prob is None:
        lines.append("no log-probabilities that are all finite")
    elif limits.log_prob is not None and reached.log_prob > limits.log_prob:
        lines.append(
            f"log-probabilities are off by up to {reached.log_prob:.2e} nats per {units.subpixel}, limit "
            f"{limits.log_prob:.0e}"
        )
    if limits.agreement is not None and (reached.agreement or 0) < limits.agreement:
        lines.append(f"only {reached.agreement or 0:.2%} of the {units.subpixel}s agree, limit {limits.agreement:.0%}")
    if limits.drift is not None and reached.drift is not None and reached.drift > limits.drift:
        lines.append(f"the likelihood drifts by {reached.drift:.2e} bits/{units.dim}, limit {limits.drift:.0e}")
    return lines
