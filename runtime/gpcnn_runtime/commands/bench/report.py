"""What `gpcnn-bench` reports: measurements in processes of their own, made into rows that compare.

The arithmetic floor of an image is `ModelSpec.multiply_adds()` at the peak fp32 GEMM rate of one core
(`gpcnn_runtime.engines.onnxruntime.gemm`), the fastest seen in the run. `floor_ratio` charges every thread that draws
as one core.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from gpcnn_deploy.baseline import BASELINE_MODULE, BaselineReport
from gpcnn_deploy.child import run_child
from gpcnn_deploy.errors import ParityError
from gpcnn_deploy.metadata import Role
from gpcnn_deploy.text import exact_json
from gpcnn_runtime.commands.bench.worker import Job, Measured

WORKER_MODULE = "gpcnn_runtime.commands.bench.worker"
EAGER = "eager PyTorch"


class BenchRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a benchmark; the same in JSON.

    Attributes:
        engine: file name of the engine, or `eager PyTorch`.
        role: `sampler`, `step`, or `eager` for a baseline.
        strategy: `graph` (a sampler's schedule is in its graph), `jacobi`, `raster`, `naive` or `cached`.
        window: columns drawn at a time; None for a step, for the naive baseline, and where threads drew parts of the
            batch in different windows.
        batch: N, images a call.
        threads: threads that drew at the same time.
        ms_per_image_p50, ms_per_image_p90, ms_per_image_p99: of the calls' durations, each divided by N, in ms; the
            last two are None where there was one call alone.
        images_per_s: 1000 / ms_per_image_p50.
        speedup_vs_eager: the naive eager baseline's median over this one's; None without a baseline.
        floor_ratio: ms_per_image_p50 × threads over the arithmetic floor of one core; None where the engine does not
            run on the CPU.
        evaluations_per_image: passes through the network (of a window, for a sampler) that an image went through.
        peak_rss_mb: peak memory of the process that drew, in MB.
        load_ms: from the file's path to readiness, in ms.
        extrapolated: this row's times are scaled up from the first pixels of a run.
        baseline_extrapolated: so are the baseline's that `speedup_vs_eager` refers to; None without one.
        identical: eager PyTorch was shown to draw the same images of the same noise; None if it was not asked.
    """

    engine: str
    role: Role | Literal["eager"]
    strategy: str
    window: int | None
    batch: int
    threads: int
    ms_per_image_p50: float
    ms_per_image_p90: float | None
    ms_per_image_p99: float | None
    images_per_s: float
    speedup_vs_eager: float | None
    floor_ratio: float | None
    evaluations_per_image: float | None
    peak_rss_mb: float
    load_ms: float
    extrapolated: bool = False
    baseline_extrapolated: bool | None = None
    identical: bool | None = None


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run.

    Attributes:
        machine: `gpcnn_deploy.machine.machine_facts`.
        engine_digest: SHA-256 of the engine.
        runs_on: library, version and device that ran the engine.
        multiply_adds: of one image, each row and column evaluated once.
        gemm_rate: peak fp32 multiply-adds per second of one core, measured in this run; None on a GPU.
        floor_ms: multiply_adds / gemm_rate, in ms an image.
        near_ties: images that part from eager PyTorch's at a proven near-tie, of all that were compared.
        rows: the lines.
    """

    machine: dict[str, str | int]
    engine_digest: str
    runs_on: str
    multiply_adds: int
    gemm_rate: float | None
    floor_ms: float | None
    near_ties: int = 0
    rows: tuple[BenchRow, ...]


def run_worker(job: Job, images: Path) -> Measured:
    """Measure one job in a process of its own; `images` receives what its first call drew.

    Raises:
        GpcnnError: what the worker reported, with its exit code.
    """
    with _as_file(job) as path:
        return run_child(WORKER_MODULE, [str(path), str(images)], Measured)


def run_baseline(
    checkpoint: Path, images: Path, *, threads: int, limit: float, window: int | None = None, runs: int = 3
) -> BaselineReport:
    """Draw what `images` holds in eager PyTorch, in a process of its own.

    Args:
        checkpoint: a checkpoint file, or a run folder that holds one.
        images: what `run_worker` wrote.
        threads: of PyTorch.
        limit: seconds after which a naive run is extrapolated.
        window: None for the naive loop; else cached, that many columns at a time.
        runs: most runs, within the limit.

    Raises:
        MissingExtraError, CheckpointError: as one GpcnnError with the baseline's message.
        ParityError: an image differs from eager PyTorch's, beyond a proven near-tie.
    """
    arguments = [str(checkpoint), str(images), f"--threads={threads}", f"--limit={limit}", f"--runs={runs}"]
    if window is not None:
        arguments.append(f"--window={window}")
    report = run_child(BASELINE_MODULE, arguments, BaselineReport)
    if report.divergence is not None:
        raise ParityError(
            f"the images are not those of eager PyTorch with {checkpoint} ({report.divergence}): name the checkpoint "
            "that the engine was made from, or export the engine anew"
        )
    return report


def engine_row(
    measured: Measured, job: Job, gemm_rate: float | None, baseline: BaselineReport | None = None
) -> BenchRow:
    """The row of an engine; `gemm_rate` is the fastest that the whole run has seen."""
    p50, p90, p99 = per_image(measured.seconds, job.batch)
    floor = measured.spec.multiply_adds() / gemm_rate * 1e3 if gemm_rate and measured.gemm_rate else None
    return BenchRow(
        engine=Path(job.engine).name,
        role=measured.role,
        strategy=job.strategy if measured.role == "step" else "graph",
        window=measured.window,
        batch=job.batch,
        threads=measured.threads,
        ms_per_image_p50=p50,
        ms_per_image_p90=p90,
        ms_per_image_p99=p99,
        images_per_s=1e3 / p50,
        speedup_vs_eager=None if baseline is None else statistics.median(baseline.seconds) / job.batch * 1e3 / p50,
        floor_ratio=None if floor is None else p50 * measured.threads / floor,
        evaluations_per_image=measured.evaluations_per_image,
        peak_rss_mb=measured.peak_rss_mb,
        load_ms=measured.load_ms,
        baseline_extrapolated=None if baseline is None else baseline.extrapolated,
        identical=None if baseline is None else True,
    )


def baseline_row(
    report: BaselineReport,
    batch: int,
    floor_ms: float | None,
    naive: BaselineReport,
    window: int | None = None,
) -> BenchRow:
    """The row of eager PyTorch, naive where window is None, else cached; `naive` is what its speed-up refers to."""
    p50, p90, p99 = per_image(report.seconds, batch)
    return BenchRow(
        engine=EAGER,
        role="eager",
        strategy="naive" if window is None else "cached",
        window=window,
        batch=batch,
        threads=report.threads,
        ms_per_image_p50=p50,
        ms_per_image_p90=p90,
        ms_per_image_p99=p99,
        images_per_s=1e3 / p50,
        speedup_vs_eager=statistics.median(naive.seconds) / batch * 1e3 / p50,
        floor_ratio=None if floor_ms is None else p50 * report.threads / floor_ms,
        evaluations_per_image=None if report.passes is None else float(report.passes),
        peak_rss_mb=report.peak_rss_mb,
        load_ms=report.load_ms,
        extrapolated=report.extrapolated,
        baseline_extrapolated=naive.extrapolated,
        identical=True,
    )


def per_image(seconds: Sequence[float], batch: int) -> tuple[float, float | None, float | None]:
    """Percentiles 50, 90 and 99 in ms an image; the last two are None for a single call."""
    import numpy as np

    p50, p90, p99 = (float(p) for p in np.percentile(np.asarray(seconds) * 1e3 / batch, (50, 90, 99)))
    return (p50, p90, p99) if len(seconds) > 1 else (p50, None, None)


@contextlib.contextmanager
def _as_file(job: Job) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gpcnn-bench-") as folder:
        path = Path(folder, "job.json")
        path.write_text(exact_json(job), encoding="utf-8")
        yield path
