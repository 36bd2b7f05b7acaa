"""What `gpcnn-bench` reports: measurements in processes of their own, made into rows that compare.

The arithmetic floor of an image is `ModelSpec.multiply_adds()` at the peak fp32 GEMM rate of one core
(`gpcnn_runtime.commands.bench.yardstick`), the fastest seen in the run. `floor_ratio` charges every thread that draws
as one core.
"""

from __future__ import annotations

import contextlib
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from gpcnn_deploy.baseline import BASELINE_MODULE, BaselineReport
from gpcnn_deploy.commands.child import ChildError, environment, run_child
from gpcnn_deploy.errors import ParityError, UsageError
from gpcnn_deploy.metadata import Role
from gpcnn_deploy.text import exact_json
from gpcnn_runtime.commands.bench.worker import BenchJob, Measured

WORKER_MODULE = "gpcnn_runtime.commands.bench.worker"
EXPORT_MODULE = "gpcnn_export.commands.export.cli"
EAGER = "eager PyTorch"


class BenchRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a benchmark; the same in JSON.

    Attributes:
        engine: file name of the engine, or `eager PyTorch`.
        work: `draw`, or `score` of images that are all known.
        role: `weights` (a model file), `sampler`, `step`, or `eager` for a baseline.
        strategy: `native` (the native engine's own schedule), `graph` (a sampler's schedule is in its graph), `jacobi`,
            `raster`, `naive` or `cached`.
        window: columns drawn at a time; None for a model file, for a step, for the naive baseline, and where threads
            drew parts of the batch in different windows.
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
        cold_ms: from the start of the process to its first batch, in ms; None for a baseline, and where nobody asked.
        extrapolated: this row's times are scaled up from the first pixels of a run.
        baseline_extrapolated: so are the baseline's that `speedup_vs_eager` refers to; None without one.
        identical: eager PyTorch was shown to draw the same images of the same noise; None if it was not asked.
    """

    engine: str
    work: Literal["draw", "score"] = "draw"
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
    cold_ms: float | None = None
    extrapolated: bool = False
    baseline_extrapolated: bool | None = None
    identical: bool | None = None


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run.

    Attributes:
        machine: `gpcnn_deploy.system.machine.machine_facts`.
        engine_digest: SHA-256 of the engine.
        runs_on: library, version and device that ran the engine.
        beside: file name of each engine it was measured beside → library, version and device that ran that one.
        multiply_adds: of one image, each row and column evaluated once.
        gemm_rate: peak fp32 multiply-adds per second of one core, measured in this run; None on a GPU.
        gemm_library: whose matrix product reached it.
        floor_ms: multiply_adds / gemm_rate, in ms an image.
        near_ties: images that part from eager PyTorch's at a proven near-tie, of all that were compared.
        rows: the lines.
    """

    machine: dict[str, str | int]
    engine_digest: str
    runs_on: str
    beside: dict[str, str] = {}
    multiply_adds: int
    gemm_rate: float | None
    gemm_library: str | None = None
    floor_ms: float | None
    near_ties: int = 0
    rows: tuple[BenchRow, ...]


def run_worker(job: BenchJob, images: Path) -> Measured:
    """Measure one job in a process of its own; `images` receives what its first call drew.

    Raises:
        GpcnnError: what the worker reported, with its exit code.
    """
    with _as_file(msgspec.structs.replace(job, begun=time.time())) as path:
        return run_child(WORKER_MODULE, [str(path), str(images)], Measured)


def onnx_beside(checkpoint: str, folder: Path) -> Path | None:
    """The ONNX engine of a checkpoint or model file, exported in a process of its own; None if onnx is not installed.

    Raises:
        GpcnnError: what the export reported.
    """
    if any(importlib.util.find_spec(name) is None for name in ("torch", "onnx", "onnxscript", "onnxruntime")):
        return None
    path = folder / "model.onnx"
    command = [sys.executable, "-m", EXPORT_MODULE, checkpoint, "--format", "onnx", "-o", str(path)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        env=environment(),
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ChildError(f"no ONNX engine of {checkpoint}: {lines[-1].removeprefix('Error: ')}", 1)
    return path


def compare_images(engine: str, images: Path, other: str, others: Path) -> int:
    """How many of the images that two engines drew differ.

    Raises:
        UsageError: they are engines of different models.
    """
    import numpy as np

    with np.load(images) as mine, np.load(others) as found:
        fed = [name for name in mine.files if name != "image"]
        if sorted(mine.files) != sorted(found.files) or any(mine[name].shape != found[name].shape for name in fed):
            raise UsageError(f"{other} is an engine of another model than {engine}: there is nothing to compare")
        return int((mine["image"] != found["image"]).any(axis=(1, 2, 3)).sum())


def run_baseline(
    checkpoint: str | Path, images: Path, *, threads: int, limit: float, window: int | None = None, runs: int = 3
) -> BaselineReport:
    """Draw what `images` holds in eager PyTorch, in a process of its own.

    Args:
        checkpoint: a checkpoint file, a run folder that holds one, or a model file.
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
    measured: Measured,
    job: BenchJob,
    gemm_rate: float | None,
    baseline: BaselineReport | None = None,
    name: str | None = None,
) -> BenchRow:
    """The row of an engine; `gemm_rate` is the fastest that the whole run has seen, `name` another than its file's."""
    p50, p90, p99 = per_image(measured.seconds, job.batch)
    on_cpu = measured.gemm_rate is not None or not job.yardstick
    floor = measured.spec.multiply_adds() / gemm_rate * 1e3 if gemm_rate and on_cpu else None
    return BenchRow(
        engine=name or engine_name(job.engine),
        work="score" if job.score else "draw",
        role=measured.role,
        strategy={"step": job.strategy, "weights": "native"}.get(measured.role, "graph"),
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
        cold_ms=measured.cold_ms,
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


def engine_name(engine: str) -> str:
    """File name of an engine, or `zoo:NAME`."""
    return Path(engine).name


def names(engines: Sequence[str]) -> dict[str, str]:
    """Engine → its file name, or, where two have the same one, the path as it was given."""
    short = {engine: engine_name(engine) for engine in dict.fromkeys(engines)}
    return {engine: name if list(short.values()).count(name) == 1 else engine for engine, name in short.items()}


@contextlib.contextmanager
def _as_file(job: BenchJob) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gpcnn-bench-") as folder:
        path = Path(folder, "job.json")
        path.write_text(exact_json(job), encoding="utf-8")
        yield path
