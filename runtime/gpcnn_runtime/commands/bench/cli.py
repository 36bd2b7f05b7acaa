"""`gpcnn-bench`: how fast an engine draws on this machine, beside eager PyTorch and the arithmetic floor."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpcnn_deploy.command import STDOUT, Command, json_option, write_json
from gpcnn_runtime.commands.options import provider_option, strategy_option, threads_option

if TYPE_CHECKING:
    from gpcnn_deploy.baseline import BaselineReport
    from gpcnn_runtime.commands.bench.report import BenchReport
    from gpcnn_runtime.commands.bench.worker import Job, Measured
    from gpcnn_runtime.engines.base import Strategy
    from gpcnn_runtime.engines.onnxruntime.providers import Provider


@click.command(cls=Command)
@click.argument("engine", type=click.Path(path_type=Path))
@click.option(
    "--batch", "batches", type=click.IntRange(1), multiple=True, default=(1,), help="Images a call; may be repeated."
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Adds naive eager PyTorch on the same weights and noise, and checks that the images are identical.",
)
@threads_option
@json_option
@click.option("--repeat", type=click.IntRange(1), default=5, show_default=True, help="Fewest calls of each batch size.")
@click.option(
    "--min-time",
    type=click.FloatRange(0, 3600),
    default=2.0,
    show_default=True,
    help="Seconds that the calls of each batch size take at least.",
)
@click.option("--label", help="What to draw: a number or class name.  [default: all classes in turn]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the noise.")
@strategy_option
@provider_option
@click.option(
    "--baseline-limit",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="A baseline that would take longer is timed on its first pixels, and extrapolated.",
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
    """Measure how fast ENGINE draws.

    \b
    gpcnn-bench model.onnx
    gpcnn-bench model.onnx --batch 1 --batch 64 --checkpoint runs/mnist --json bench.json
    """
    from gpcnn_deploy.errors import CheckpointError
    from gpcnn_deploy.streams import status
    from gpcnn_runtime.commands.bench.report import run_baseline, run_worker
    from gpcnn_runtime.commands.bench.worker import Job

    if checkpoint is not None and not checkpoint.exists():
        raise CheckpointError(f"{checkpoint}: no such file: train one with gpcnn-train, or name another")
    measured: list[tuple[Job, Measured, BaselineReport | None]] = []
    with (
        tempfile.TemporaryDirectory(prefix="gpcnn-bench-") as folder,
        status("starting", refresh_per_second=1) as live,  # it shares the cores that are measured
    ):
        images = Path(folder, "images.npz")
        for batch in dict.fromkeys(batches):
            job = Job(
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
    _show(report, engine, [baseline for _, _, baseline in measured if baseline is not None], json_path == STDOUT)
    if json_path not in (None, STDOUT):
        click.echo(f"Wrote {json_path}.")


def _cores(threads: int | None) -> int:
    from gpcnn_deploy.machine import default_threads

    return threads or default_threads()


def _report(measured: list[tuple[Job, Measured, BaselineReport | None]]) -> BenchReport:
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


def _show(report: BenchReport, engine: Path, baselines: list[BaselineReport], stderr: bool) -> None:
    from gpcnn_deploy.streams import console
    from gpcnn_runtime.commands.bench.table import notes, table

    shown = console(stderr)
    shown.print(table(report, str(engine)))
    for line in notes(report, baselines):
        shown.print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
