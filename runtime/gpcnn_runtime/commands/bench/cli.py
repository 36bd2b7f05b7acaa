"""`gpcnn-bench`: how fast an engine draws on this machine, beside eager PyTorch and the arithmetic floor."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpcnn_deploy.commands.command import Command, json_option, write_json
from gpcnn_deploy.commands.paths import PATH
from gpcnn_deploy.text import counted
from gpcnn_runtime.commands.options import provider_option, strategy_option, threads_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpcnn_deploy.baseline import BaselineReport
    from gpcnn_runtime.commands.bench.report import BenchReport
    from gpcnn_runtime.commands.bench.worker import BenchJob, Measured
    from gpcnn_runtime.engines.base import Strategy
    from gpcnn_runtime.engines.onnxruntime.providers import Provider


@click.command(cls=Command)
@click.argument("engine", type=PATH)
@click.option(
    "--batch", "batches", type=click.IntRange(1), multiple=True, default=(1,), help="Images in a call. May be repeated."
)
@click.option(
    "--checkpoint",
    type=PATH,
    help="Also time eager PyTorch, which runs the whole network once per sub-pixel, on the same weights and noise, and "
    "check that the images are identical: a checkpoint, a run folder, or a model file.",
)
@click.option(
    "--beside",
    metavar="ENGINE",
    type=PATH,
    multiple=True,
    help="Another engine of the same model, measured in the same run; may be repeated.  [default: of a model file with "
    "--checkpoint, the ONNX engine of the same weights, where the packages that make and run it are installed]",
)
@click.option("--alone", is_flag=True, help="Make no ONNX engine to compare with.")
@click.option("--score", is_flag=True, help="Adds the scoring of images that are all known.")
@threads_option
@json_option
@click.option(
    "--repeat",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Make at least so many calls of each batch size.",
)
@click.option(
    "--min-time",
    type=click.FloatRange(0, 3600),
    default=2.0,
    show_default=True,
    help="Go on for at least so many seconds for each batch size.",
)
@click.option("--label", help="What to draw: a number or class name.  [default: all classes in turn]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the noise.")
@strategy_option
@provider_option
@click.option(
    "--baseline-limit",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="If eager PyTorch would take longer, time its first pixels and extrapolate.",
)
def main(
    engine: Path,
    batches: tuple[int, ...],
    checkpoint: Path | None,
    beside: tuple[Path, ...],
    alone: bool,
    score: bool,
    threads: int | None,
    json_path: Path | None,
    repeat: int,
    min_time: float,
    label: str | None,
    seed: int,
    strategy: Strategy,
    provider: Provider,
    baseline_limit: float,
) -> None:
    """Measure how fast ENGINE draws, in milliseconds an image.

    The result is compared with the arithmetic floor: the time that the multiply-adds of an image take at the best rate
    of a core.

    \b
    gpcnn-bench model.gpcnn
    gpcnn-bench model.gpcnn --batch 1 --batch 64 --checkpoint runs/mnist --json bench.json
    gpcnn-bench model.gpcnn --beside model.onnx --score
    """
    from gpcnn_deploy.commands.console import show, status, taken
    from gpcnn_deploy.errors import CheckpointError
    from gpcnn_deploy.model_file import SUFFIX
    from gpcnn_runtime.commands.bench.table import notes, table
    from gpcnn_runtime.commands.bench.worker import BenchJob
    from gpcnn_runtime.zoo.catalogue import resolve_engine

    weights = None if checkpoint is None else resolve_engine(checkpoint)
    if weights is not None and not weights.exists():
        raise CheckpointError(f"{checkpoint}: no such file: train one with gpcnn-train, or name another")

    def job(of: str, batch: int, scores: bool) -> BenchJob:
        return BenchJob(
            engine=of,
            batch=batch,
            threads=threads,
            label=label,
            seed=seed,
            strategy=strategy,
            provider=provider if of == str(engine) else "auto",
            repeat=repeat,
            min_time=min_time,
            max_time=max(60.0, min_time),
            score=scores,
        )

    with (
        tempfile.TemporaryDirectory(prefix="gpcnn-bench-") as folder,
        status("starting", refresh_per_second=1) as live,  # it shares the cores that are measured
    ):
        engines = [str(engine), *map(str, beside)]
        if weights is not None and not beside and not alone and resolve_engine(engine).suffix.lower() == SUFFIX:
            engines += _exported(weights, Path(folder), live.update)
        measured = [
            _measure(
                [job(of, batch, False) for of in engines],
                [job(of, batch, True) for of in engines] if score else [],
                None if weights is None else Baseline(weights, _cores(threads), baseline_limit),
                Path(folder),
                live.update,
            )
            for batch in dict.fromkeys(batches)
        ]
    report = _report(measured)
    write_json(json_path, report)
    baselines = [one.baseline for one in measured if one.baseline is not None]
    show([table(report, str(engine)), *notes(report, baselines)], stderr=taken(json_path))
    if json_path is not None and not taken(json_path):
        click.echo(f"Wrote {json_path}.")


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Eager PyTorch: the weights, the most threads, and the seconds after which it is extrapolated."""

    weights: Path
    threads: int
    limit: float


@dataclasses.dataclass(frozen=True)
class Measurements:
    """One batch size: each engine with its job, and the baseline, the first engine's images being held against it."""

    engines: list[tuple[BenchJob, Measured]]
    baseline: BaselineReport | None
    near_ties: int


def _exported(weights: Path, folder: Path, tell: Callable[[str], None]) -> list[str]:
    """The ONNX engine of these weights, where it can be made."""
    from gpcnn_runtime.commands.bench.report import onnx_beside

    tell("exporting the ONNX engine of the same weights")
    path = onnx_beside(str(weights), folder)
    return [] if path is None else [str(path)]


def _measure(
    jobs: list[BenchJob], scoring: list[BenchJob], eager: Baseline | None, folder: Path, tell: Callable[[str], None]
) -> Measurements:
    """Measure every job in turn, and compare what the engines drew, with each other and with eager PyTorch.

    Raises:
        ParityError: images differ, and no near-tie explains it.
    """
    from gpcnn_deploy.errors import ParityError
    from gpcnn_runtime.commands.bench.report import compare_images, engine_name, run_baseline, run_worker

    first, images, baseline = jobs[0], folder / "images.npz", None
    engines, near_ties = [], 0
    for job in jobs:
        tell(f"{job.engine}, batch {job.batch}")
        drawn = images if job is first else folder / "others.npz"
        engines.append((job, run_worker(job, drawn)))
        if job is first:
            continue
        name, other = engine_name(first.engine), engine_name(job.engine)
        differing = compare_images(name, images, other, drawn)
        if differing and eager is None:
            raise ParityError(
                f"{differing} of {counted(job.batch, 'image')} of {other} are not those of {name}: take engines of one "
                "checkpoint; if these are, name it with --checkpoint, to see whether a rounding error explains it"
            )
        if differing and eager is not None:  # eager PyTorch raises unless a rounding error explains it
            near_ties += run_baseline(eager.weights, drawn, threads=1, limit=1e-3, runs=1).near_ties
    for job in scoring:
        tell(f"{job.engine}, batch {job.batch}, scores")
        engines.append((job, run_worker(job, folder / "others.npz")))
    if eager is not None:
        tell(f"eager PyTorch, batch {first.batch}")
        baseline = run_baseline(eager.weights, images, threads=eager.threads, limit=eager.limit)
        near_ties += baseline.near_ties
    return Measurements(engines, baseline, near_ties)


def _cores(threads: int | None) -> int:
    from gpcnn_deploy.system.machine import default_threads

    return threads or default_threads()


def _report(measured: list[Measurements]) -> BenchReport:
    from gpcnn_deploy.system.machine import machine_facts
    from gpcnn_runtime.commands.bench.report import BenchReport, baseline_row, engine_row, names

    results = [result for one in measured for _, result in one.engines]
    fastest = max((result for result in results if result.gemm_rate), key=lambda one: one.gemm_rate or 0, default=None)
    rate = None if fastest is None else fastest.gemm_rate
    first, *others = measured[0].engines
    multiply_adds = first[1].spec.multiply_adds()
    floor_ms = None if rate is None else multiply_adds / rate * 1e3
    name = names([job.engine for job, _ in measured[0].engines])
    rows = []
    for one in measured:
        for job, result in one.engines:
            rows.append(engine_row(result, job, rate, None if job.score else one.baseline, name[job.engine]))
        if one.baseline is not None:
            rows.append(baseline_row(one.baseline, one.engines[0][0].batch, floor_ms, one.baseline))
    return BenchReport(
        machine=machine_facts(),
        engine_digest=first[1].engine_digest,
        runs_on=first[1].runs_on,
        beside={name[job.engine]: result.runs_on for job, result in others if not job.score},
        multiply_adds=multiply_adds,
        gemm_rate=rate,
        gemm_library=None if fastest is None else fastest.gemm_library,
        floor_ms=floor_ms,
        near_ties=sum(one.near_ties for one in measured),
        rows=tuple(rows),
    )


if __name__ == "__main__":
    main()
