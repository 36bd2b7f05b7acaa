"""How well each anomaly score tells Fashion-MNIST from MNIST, under a model of one of them: AUROC.

    python -m benchmarks.anomaly --engine model.onnx --background local.onnx --background mutated.onnx --data-dir DIR
    python -m benchmarks.anomaly --usual fashion-mnist --engine … --background … --data-dir DIR

Both ways of making pictures black and white are measured: by the nearest level, and drawn at random as in training. The
mean of `typicality` is that of training pictures, which are in neither test set.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import click
import msgspec
import numpy as np
import numpy.typing as npt

from gpcnn_deploy.commands.command import Command, json_option, say, write_json
from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.system.machine import machine_facts
from gpcnn_runtime.anomaly import Method, anomaly_scores, auroc, calibrate
from gpcnn_runtime.commands.options import batch_size_option, threads_option
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.scores import Binarization, score, to_levels
from gpcnn_training.data.sources import load_data

QUANTILE = 0.01
_AT_ONCE = 100
Nats = dict[str, npt.NDArray[np.float64]]
Pixels = npt.NDArray[np.uint8]


class AnomalyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One score, one way of making pictures black and white.

    Attributes:
        method: the score.
        background: file name of the background engine, for `ratio`.
        binarization: how pixels became levels.
        auroc: probability that a Fashion-MNIST picture has the larger score of the two; 0.5 is chance.
        flagged_usual: share of usual test pictures above a threshold calibrated on training pictures at QUANTILE.
        flagged_unusual: share of the other data set's test pictures above it.
    """

    method: Method
    background: str | None = None
    binarization: Binarization
    auroc: float
    flagged_usual: float
    flagged_unusual: float


class AnomalyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, on what, by which command."""

    command: str
    machine: dict[str, str | int]
    usual: str
    unusual: str
    engine_digest: str
    background_digests: dict[str, str]
    count: int
    usual_nats: dict[Binarization, float]
    unusual_nats: dict[Binarization, float]
    rows: tuple[AnomalyRow, ...]


@click.command(cls=Command)
@click.option("--engine", type=click.Path(path_type=Path), required=True, help="A model of the usual data set.")
@click.option(
    "--background",
    "backgrounds",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="A background model; several may be compared.",
)
@click.option(
    "--usual", type=click.Choice(["mnist", "fashion-mnist"]), default="mnist", show_default=True, help="Trained on."
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where both lie.  [default: download them]")
@click.option("--fashion-dir", type=click.Path(path_type=Path), help="Where Fashion-MNIST lies, if elsewhere.")
@click.option("--count", type=click.IntRange(100, 10_000), default=10_000, show_default=True, help="Of each data set.")
@threads_option
@batch_size_option
@json_option
def main(
    engine: Path,
    backgrounds: tuple[Path, ...],
    usual: str,
    data_dir: Path | None,
    fashion_dir: Path | None,
    count: int,
    threads: int | None,
    batch_size: int,
    json_path: Path | None,
) -> None:
    """Measure AUROC of Fashion-MNIST against MNIST, or the other way round, with each anomaly score."""
    data = {"mnist": load_data("mnist", data_dir), "fashion-mnist": load_data("fashion-mnist", fashion_dir or data_dir)}
    (unusual,) = data.keys() - {usual}
    sets = {
        "calibration": data[usual].train_pixels[:count],
        "usual": data[usual].test_pixels[:count],
        "unusual": data[unusual].test_pixels[:count],
    }
    with contextlib.ExitStack() as stack:
        model, *others = (
            stack.enter_context(Sampler.load(path, threads, batch_size)) for path in (engine, *backgrounds)
        )
        for sampler in (model, *others):
            spec = sampler.metadata.spec
            if (spec.image_shape, spec.levels) != ((1, 28, 28), 2):
                raise UsageError(f"{sampler.engine.info.path}: expected an engine of 28×28 grey images with 2 levels")
        rows: list[AnomalyRow] = []
        means: dict[str, dict[Binarization, float]] = {name: {} for name in sets}
        ways: tuple[Binarization, ...] = ("nearest", "stochastic")
        for binarization in ways:
            nats = _nats(model, sets, binarization)
            for name, values in nats.items():
                means[name][binarization] = float(values.mean())
            rows.append(_row("likelihood", binarization, nats))
            rows.append(_row("typicality", binarization, nats))
            for other in others:
                rows.append(_row("ratio", binarization, nats, _nats(other, sets, binarization), other))
        named = " ".join(f"--background {path.name}" for path in backgrounds)
        report = AnomalyReport(
            command=f"python -m benchmarks.anomaly --usual {usual} --engine {engine.name} {named} --count {count}",
            machine=machine_facts(),
            usual=usual,
            unusual=unusual,
            engine_digest=model.engine.info.digest,
            background_digests={other.engine.info.path.name: other.engine.info.digest for other in others},
            count=count,
            usual_nats=means["usual"],
            unusual_nats=means["unusual"],
            rows=tuple(rows),
        )
    write_json(json_path, report)
    for line in markdown(report):
        say(json_path, line)


def markdown(report: AnomalyReport) -> list[str]:
    """The rows as a table: the lines that docs/scoring.md has."""
    lines = [f"| score | pixels | AUROC | {report.usual} flagged | {report.unusual} flagged |", "|---|---|---|---|---|"]
    for row in report.rows:
        flagged = f"{row.flagged_usual:.1%} | {row.flagged_unusual:.1%}"
        method = row.method if row.background is None else f"{row.method}, {row.background}"
        lines.append(f"| {method} | {row.binarization} | {row.auroc:.4f} | {flagged} |")
    return lines


def _row(
    method: Method, binarization: Binarization, nats: Nats, background: Nats | None = None, other: Sampler | None = None
) -> AnomalyRow:
    mean = float(nats["calibration"].mean())
    scores = {
        name: anomaly_scores(method, values, None if background is None else background[name], mean)
        for name, values in nats.items()
    }
    threshold = calibrate(scores["calibration"], QUANTILE)
    return AnomalyRow(
        method=method,
        background=None if other is None else other.engine.info.path.name,
        binarization=binarization,
        auroc=auroc(scores["usual"], scores["unusual"]),
        flagged_usual=float((scores["usual"] > threshold).mean()),
        flagged_unusual=float((scores["unusual"] > threshold).mean()),
    )


def _nats(sampler: Sampler, sets: dict[str, Pixels], binarization: Binarization) -> Nats:
    """-log p of each picture of each set, float64 [N]; progress on stderr."""
    spec, found = sampler.metadata.spec, {}
    for name, pixels in sets.items():
        parts, begin = [], time.perf_counter()
        for start in range(0, len(pixels), _AT_ONCE):
            part = pixels[start : start + _AT_ONCE]
            levels = np.stack([to_levels(one, spec, binarization, 0, start + k) for k, one in enumerate(part)])
            parts.append(score(sampler, levels).nats)
        found[name] = np.concatenate(parts)
        took = f"{time.perf_counter() - begin:.0f} s"
        print(f"{sampler.engine.info.path.name}, {name}, {binarization}: {took}", file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
