"""Measure the ways to draw a batch: each in a process of its own, in turn, several rounds, all images compared."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from benchmarks.models import Model
from gpcnn_deploy.baseline import BaselineReport
from gpcnn_deploy.commands.child import run_child
from gpcnn_deploy.errors import ParityError
from gpcnn_runtime.commands.bench.report import BenchRow, baseline_row, engine_row, run_baseline, run_worker
from gpcnn_runtime.commands.bench.worker import BenchJob, Measured

Kind = Literal["naive", "cached", "raster", "step", "sampler", "native"]


@dataclass(frozen=True)
class Way:
    """A way to draw: eager PyTorch, naive or cached; ONNX Runtime in raster order; our step, sampler, native engine."""

    kind: Kind
    window: int | None = None


NAIVE = Way("naive")
RASTER = Way("raster")
STEP = Way("step")
NATIVE = Way("native")


@dataclass(frozen=True)
class Effort:
    """How much time to spend.

    Attributes:
        rounds: times that each way gets its turn; those that are extrapolated get one.
        min_time: seconds of calls of an engine in a round.
        limit: seconds after which a full forward per pixel is extrapolated.
        threads: of a batch, and of PyTorch.
    """

    rounds: int
    min_time: float
    limit: float
    threads: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One result: the model, the series and value that it belongs to, and the row as `gpcnn-bench` gives it."""

    model: str
    weights: str
    series: str
    value: int
    floor_ms: float
    row: BenchRow


@dataclass(frozen=True, eq=False)
class Raw:
    """What was measured of one model and batch size; rows are made of it when the GEMM rate of the run is known."""

    model: Model
    batch: int
    threads: int
    engines: dict[Way, tuple[BenchJob, Measured]]
    loops: dict[Way, BaselineReport]
    near_ties: int

    def lines(self, series: str, value: int, gemm_rate: float) -> list[Line]:
        """The rows, slowest ways first."""
        floor_ms = self.model.spec.multiply_adds() / gemm_rate * 1e3
        naive = self.loops[NAIVE]
        rows = []
        for way, loop in self.loops.items():
            row = baseline_row(loop, self.batch, floor_ms, naive, way.window)
            if way == RASTER:
                row = msgspec.structs.replace(row, engine=loop.library, role="step", strategy="raster")
            rows.append(row)
        rows += [engine_row(measured, job, gemm_rate, naive) for job, measured in self.engines.values()]
        return [
            Line(
                model=self.model.title,
                weights=self.model.weights,
                series=series,
                value=value,
                floor_ms=floor_ms,
                row=row,
            )
            for row in rows
        ]


def measure(
    model: Model, batch: int, ways: Sequence[Way], effort: Effort, folder: Path, tell: Callable[[str], None]
) -> Raw:
    """Measure the ways in turn.

    Args:
        model: what draws.
        batch: images a call.
        ways: all but the naive loop, which always takes part: everything is held against it.
        effort: time to spend.
        folder: for files in between.
        tell: progress, one line at a time.

    Raises:
        ParityError: a way draws other images than eager PyTorch, beyond a proven near-tie.
    """
    reference, images = folder / "reference.npz", folder / "images.npz"
    run_worker(_job(model, Way("sampler", 1), batch, effort, once=True), reference)
    loops: dict[Way, list[BaselineReport]] = {}
    engines: dict[Way, list[Measured]] = {}
    near_ties = 0
    for turn in range(effort.rounds):
        for way in (NAIVE, *ways):
            if turn and way in (NAIVE, RASTER):
                continue
            tell(f"{model.title}, batch {batch}: {describe(way)}, round {turn + 1} of {effort.rounds}")
            if way.kind in ("naive", "cached", "raster"):
                loop = _loop(model, way, reference, effort)
                near_ties += loop.near_ties
                loops.setdefault(way, []).append(loop)
            else:
                engines.setdefault(way, []).append(run_worker(_job(model, way, batch, effort), images))
                near_ties += _compare(model, reference, images)
    jobs = {way: _job(model, way, batch, effort) for way in engines}
    return Raw(
        model,
        batch,
        effort.threads,
        {way: (jobs[way], _join_engine(found)) for way, found in engines.items()},
        {way: _join_loop(found) for way, found in loops.items()},
        near_ties,
    )


def _job(model: Model, way: Way, batch: int, effort: Effort, once: bool = False) -> BenchJob:
    return BenchJob(
        engine=str(model.model_file() if way == NATIVE else model.engine(way.window)),
        batch=batch,
        threads=effort.threads,
        repeat=1 if once else 2,
        min_time=0 if once else effort.min_time,
        max_time=max(10 * effort.min_time, 10.0),
    )


def _loop(model: Model, way: Way, reference: Path, effort: Effort) -> BaselineReport:
    if way != RASTER:
        runs = 1 if way == NAIVE else 2
        return run_baseline(
            model.checkpoint, reference, threads=effort.threads, limit=effort.limit, window=way.window, runs=runs
        )
    arguments = [str(model.engine(None)), str(reference), f"--threads={effort.threads}", f"--limit={effort.limit}"]
    report = run_child("benchmarks.onnx_raster", arguments, BaselineReport)
    if report.divergence is not None:
        raise ParityError(f"ONNX Runtime in raster order draws another {report.divergence} than eager PyTorch")
    return report


def _compare(model: Model, reference: Path, images: Path) -> int:
    """Images of an engine that part from the reference at a proven near-tie; all others are identical to it."""
    with np.load(reference) as expected, np.load(images) as found:
        differing = int((expected["image"] != found["image"]).any(axis=(1, 2, 3)).sum())
    if differing:  # both are held against eager PyTorch, which raises unless a rounding error explains it
        for path in (reference, images):
            run_baseline(model.checkpoint, path, threads=1, limit=1e-3, runs=1)
    return differing


def _join_engine(found: list[Measured]) -> Measured:
    return msgspec.structs.replace(
        found[0],
        seconds=tuple(second for one in found for second in one.seconds),
        peak_rss_mb=max(one.peak_rss_mb for one in found),
        load_ms=statistics.median(one.load_ms for one in found),
        gemm_rate=max(one.gemm_rate or 0 for one in found),
        gemm_library=max(found, key=lambda one: one.gemm_rate or 0).gemm_library,
    )


def _join_loop(found: list[BaselineReport]) -> BaselineReport:
    return msgspec.structs.replace(
        found[0],
        seconds=tuple(second for one in found for second in one.seconds),
        load_ms=statistics.median(one.load_ms for one in found),
    )


def describe(way: Way) -> str:
    """A way in a few words."""
    return {
        "naive": "eager PyTorch, full forward per pixel",
        "cached": f"eager PyTorch with caches, w = {way.window}",
        "raster": "ONNX Runtime, full forward per pixel",
        "step": "our step, Jacobi",
        "sampler": f"our sampler, w = {way.window}",
        "native": "our native engine",
    }[way.kind]


def way_of(row: BenchRow) -> Way:
    """The way that a row was measured in."""
    if row.role == "eager":
        return NAIVE if row.window is None else Way("cached", row.window)
    if row.role == "weights":
        return NATIVE
    if row.role == "step":
        return RASTER if row.strategy == "raster" else STEP
    return Way("sampler", row.window)
