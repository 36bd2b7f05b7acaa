"""`gpcnn-bench`: how fast an engine draws on this machine, beside eager PyTorch and the arithmetic floor."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpcnn_deploy.command import Command, json_option, write_json
from gpcnn_runtime.commands.options import provider_option, strategy_option, threads_option

if TYPE_CHECKING:
    from gpcnn_deploy.baseline import BaselineReport
    from gpcnn_runtime.commands.bench.report import BenchReport
    from gpcnn_runtime.commands.bench.worker import BenchJob, Measured
    from gpcnn_runtime.engines.base import Strategy
    from gpcnn_runtime.engines.onnxruntime.providers import Provider


@click.command(cls=Command)
@click.argument("engine", type=click.Path(path_type=Path))
@click.option(
    "--batch", "batches", type=click.IntRange(1), multiple=True, default=(1,), help="Images in a call. May be repeated."
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Also time eager PyTorch, which runs the whole network once per sub-pixel, on the same weights and noise, and "
    "check that the images are identical.",
)
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
    """
    from gpcnn_deploy.console import show, status, taken
    from gpcnn_deploy.errors import CheckpointError
    from gpcnn_runtime.commands.bench.report import run_baseline, run_worker
    from gpcnn_runtime.commands.bench.table import notes, table
    from gpcnn_runtime.commands.bench.worker import BenchJob

    if checkpoint is not None and not checkpoint.exists():
        raise CheckpointError(f"{checkpoint}: no such file: train one with gpcnn-train, or name another")
    measured: list[tuple[BenchJob, Measured, BaselineReport | None]] = []
    with (
        tempfile.TemporaryDirectory(prefix="gpcnn-bench-") as folder,
        status("starting", refresh_per_second=1) as live,  # it shares the cores that are measured
    ):
        images = Path(folder, "images.npz")
        for batch in dict.fromkeys(batches):
            job = BenchJob(
                engine=str(engine),
                batch=batch,
                threads=threads,
                label=label,
                seed=seed,
                strategy=strategy,
                provider=provider,
                repeat=repeat,
                min_time=min_time,
                max_time=max(60.0, min_time),
            )
            live.update(f"{engine}, batch {batch}")
            result, baseline = run_worker(job, images), None
            if checkpoint is not None:
                live.update(f"eager PyTorch, batch {batch}")
                baseline = run_baseline(checkpoint, images, threads=_cores(threads), limit=baseline_limit)
            measured.append((job, result, baseline))
    report = _report(measured)
    write_json(json_path, report)
    baselines = [baseline for _, _, baseline in measured if baseline is not None]
    show([table(report, str(engine)), *notes(report, baselines)], stderr=taken(json_path))
    if json_path is not None and not taken(json_path):
        click.echo(f"Wrote {json_path}.")


def _cores(threads: int | None) -> int:
    from gpcnn_deploy.machine import default_threads

    return threads or default_threads()


def _report(measured: list[tuple[BenchJob, Measured, BaselineReport | None]]) -> BenchReport:
    from gpcnn_deploy.machine import machine_facts
    from gpcnn_runtime.commands.bench.report import BenchReport, baseline_row, engine_row

    rates = [result.gemm_rate for _, result, _ in measured if result.gemm_rate is not None]
    rate = max(rates, default=None)
    first = measured[0][1]
    multiply_adds = first.spec.multiply_adds()
    floor_ms = None if rate is None else multiply_adds / rate * 1e3
    rows, near_ties = [], 0
    for job, result, baseline in measured:
        rows.append(engine_row(result, job, rate, baseline))
        if baseline is not None:
            rows.append(baseline_row(baseline, job.batch, floor_ms, baseline))
            near_ties += baseline.near_ties
    return BenchReport(
        machine=machine_facts(),
        engine_digest=first.engine_digest,
        runs_on=first.runs_on,
        multiply_adds=multiply_adds,
        gemm_rate=rate,
        floor_ms=floor_ms,
        near_ties=near_ties,
        rows=tuple(rows),
    )


if __name__ == "__main__":
    main()
