"""What `gpcnn-verify` prints: a line per kind of inputs and strategy, and what people have to know about the result."""

from __future__ import annotations

from rich.table import Table

from gpcnn_deploy.commands import console
from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.text import counted
from gpcnn_deploy.units import Units, units_of
from gpcnn_export.commands.verify.protocol import Limits
from gpcnn_export.commands.verify.verification import Verification


def table(found: Verification) -> Table:
    """One line per kind of inputs and strategy."""
    window = "" if found.window is None else f", {Schedule(found.window, found.batch_window, found.batch_from)}"
    role = "model file" if found.role == "weights" else found.role
    batch = "" if found.batch is None else f", batch {found.batch}"
    title = f"{found.engine}: {role}{window}{batch}, {found.precision}, on {found.runs_on}, against {found.library}"
    result = console.table(title)
    result.add_column("inputs")
    result.add_column("strategy")
    agreeing = f"{units_of(found.pictures is not None).subpixel}s\nagreeing"
    for heading in ("images", "identical", "explained", "defect", agreeing, "log-prob error\nnats"):
        result.add_column(heading, justify="right")
    for row in found.rows:
        defects = row.images - row.identical - row.explained
        result.add_row(
            row.inputs,
            row.strategy,
            *(str(number) for number in (row.images, row.identical, row.explained, defects)),
            "–" if row.agreement is None else f"{row.agreement:.3%}",
            _figure(row.log_prob_error),
        )
    return result


def notes(found: Verification) -> list[str]:
    """Origin, real data, the first divergence, limits, and the verdict."""
    lines, units = [], units_of(found.pictures is not None)
    digest = f"{found.checkpoint_digest[:12]}…"
    if found.same_checkpoint:
        lines.append(f"Origin: the engine names this checkpoint, {found.checkpoint} ({digest}).")
    else:
        named = f"{found.engine_checkpoint_digest[:12]}…" if found.engine_checkpoint_digest else "none"
        lines.append(f"Origin: ANOTHER CHECKPOINT. The engine names {named}, {found.checkpoint} is {digest}.")
    data = found.data
    if data is None:
        lines.append(f"Real data: NOT SCORED: {found.data_skipped}.")
    else:
        engine, eager = (_figure(nll, ".4f") for nll in (data.engine_nll, data.eager_nll))
        lines.append(
            f"Real data: {counted(data.images, 'test image')} of {data.name}: {engine} nats/{units.image}, eager "
            f"PyTorch {eager}; drift {_figure(data.drift)} bits/{units.dim}, log-probabilities within "
            f"{_figure(data.log_prob_error)} nats."
        )
    encoder = found.encoder
    if encoder is not None:
        lines.append(
            f"Encoder: embeddings of {counted(encoder.images, 'picture')} within {_figure(encoder.error)} of eager "
            f"PyTorch's, limit {_figure(encoder.limit)}."
        )
    if found.pictures is not None:
        shown = found.pictures
        lines.append(
            f"Pictures: {shown.images:,} of the same codes, {1 - shown.differing_share:.3%} of all pixels identical, "
            f"the others within {shown.error} of 255, limit {shown.limit}."
        )
    if found.codes is not None:
        codes = found.codes
        lines.append(
            f"Encoder: {codes.codes - codes.differing:,} of {codes.codes:,} codes of "
            f"{counted(codes.images, 'picture')} equal, the others as near within {_figure(codes.error)}, limit "
            f"{_figure(codes.limit)}."
        )
    if found.first_divergence is not None:
        lines.append(f"First divergence: {found.first_divergence}.")
    lines.append(f"Limits ({found.precision}): {_limits(found.limits, found.limits, units)}.")
    reached = "Reached" if found.proven else "Would pass with"
    lines.append(f"{reached}: {_limits(found.reached, found.limits, units)}.")
    if found.proven:
        equal = "draws the images" if found.precision == "fp32" else "is within its limits of the images"
        lines.append(f"PROVEN: the engine {equal} of eager PyTorch, and its log-probabilities are the model's.")
    return lines


def _limits(shown: Limits, limits: Limits, units: Units) -> str:
    """Figures of `shown`, as far as `limits` has one."""
    parts = [
        f"u within {_figure(shown.near_tie)} of a CDF step where levels differ",
        f"log-probabilities within {_figure(shown.log_prob)} nats per {units.subpixel}",
    ]
    if limits.agreement is not None:
        parts.append(f"{_figure(shown.agreement, '.3%')} of the {units.subpixel}s agreeing")
    if limits.drift is not None:
        parts.append(f"likelihood within {_figure(shown.drift)} bits/{units.dim}")
    return "; ".join(parts)


def _figure(value: float | None, form: str = ".1e") -> str:
    return "not finite" if value is None else format(value, form)
