"""`make bench`: our engines beside honest baselines, by batch size and by size of the model and of the image.

    python -m benchmarks [--quick] [--checkpoint CHECKPOINT]…
    python -m benchmarks --render    page and chart anew from results.json

writes benchmarks/results.json, benchmarks/RESULTS.md and docs/benchmark.png. It exits 1 if images differ or a check
fails; in the second case the files are written all the same.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from benchmarks.checks import Check, auto_is_not_slower, linear_in_pixels
from benchmarks.measure import NATIVE, RASTER, STEP, Effort, Line, Raw, Way, measure
from benchmarks.models import GROWTH, MAIN, RGB, Model, random_model, trained_model
from benchmarks.report import Results, markdown
from gpcnn_deploy.commands.command import Command
from gpcnn_deploy.spec import ModelSpec
from gpcnn_deploy.system.files import atomic_path, write_atomic
from gpcnn_deploy.system.machine import available_cores, machine_facts
from gpcnn_export.tuning import candidate_windows

ROOT = Path(__file__).resolve().parent.parent


@click.command(cls=Command)
@click.option("--quick", is_flag=True, help="About 3 minutes instead of 20: fewer sizes, shorter measurements.")
@click.option(
    "--checkpoint",
    "checkpoints",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A trained model; the first is the main one, others are added.  [default: random weights]",
)
@click.option("--threads", type=click.IntRange(1), help="For every way.  [default: the cores there are]")
@click.option(
    "--out", type=click.Path(path_type=Path), default=ROOT, help="Root of the files written.  [default: this checkout]"
)
@click.option("--render", is_flag=True, help="Measure nothing: write page and chart anew from results.json.")
def main(quick: bool, checkpoints: tuple[Path, ...], threads: int | None, out: Path, render: bool) -> None:
    """Measure, compare all images, check, and write the results."""
    file = out / "benchmarks/results.json"
    if not render:
        results = run(quick, checkpoints, threads or available_cores())
        write_atomic(file, msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    results = msgspec.json.decode(file.read_bytes(), type=Results)
    write_atomic(out / "benchmarks/RESULTS.md", markdown(results).encode())
    from benchmarks.chart import draw

    with atomic_path(out / "docs/benchmark.png") as chart:
        draw(results, chart)
    for check in results.checks:
        click.echo(f"{'passed' if check.passed else 'FAILED'}: {check.name}. {check.figures}.")
    click.echo(f"Wrote benchmarks/results.json, benchmarks/RESULTS.md and docs/benchmark.png under {out}.")
    sys.exit(0 if all(check.passed for check in results.checks) else 1)


def run(quick: bool, checkpoints: tuple[Path, ...], cores: int) -> Results:
    """Measure everything: about 3 minutes if `quick`, else 20.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        ParityError: a way draws other images than eager PyTorch.
    """
    import torch

    torch.set_num_threads(1)  # this process exports and tunes; what it measures runs in others
    effort = Effort(1, 0.5, 2.0, cores) if quick else Effort(3, 1.5, 20.0, cores)
    begin = time.perf_counter()

    def tell(line: str) -> None:
        click.echo(f"{time.perf_counter() - begin:6.0f} s  {line}", err=True)

    with tempfile.TemporaryDirectory(prefix="gpcnn-benchmarks-") as name:
        folder = Path(name)
        models = [trained_model(path, _made(folder, f"given-{k}")) for k, path in enumerate(checkpoints)]
        models = models or [random_model(MAIN, _made(folder, "main"))]
        raws: list[tuple[str, int, Raw]] = []
        for model in models:
            for batch in (1, 64) if quick else (1, 8, 64):
                raws.append(("batch", batch, measure(model, batch, _ways(model, quick), effort, folder, tell)))
        short = Effort(min(2, effort.rounds), effort.min_time / 1.5, effort.limit / 4, cores)
        grown: dict[ModelSpec, Raw] = {}  # the same model is a member of several series
        for series, value, spec in _growing(quick):
            if spec not in grown:
                model = random_model(spec, _made(folder, f"{series}-{value}"))
                ways = [Way("cached", 1), *([] if quick else [STEP]), *_samplers(model, quick), NATIVE]
                grown[spec] = measure(model, 1, ways, short, folder, tell)
            raws.append((series, value, grown[spec]))
        untrained = random_model(RGB, _made(folder, "untrained"), scale=1)
        strong = random_model(RGB, _made(folder, "strong"))
        checks = [
            auto_is_not_slower(model, batch, effort, folder, tell)
            for model in (*models, untrained, strong)
            for batch in ((1,) if quick else (1, 16))
        ]
    # Names alone: where files lie on this machine is nobody's business.
    command = ["python -m benchmarks", *(["--quick"] if quick else [])]
    command += [*(f"--checkpoint {path.name}" for path in checkpoints), f"--threads {cores}"]
    return _results(raws, checks, cores, " ".join(command))


def _made(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    return path


def _ways(model: Model, quick: bool) -> list[Way]:
    width = model.spec.width
    return [Way("cached", 1), Way("cached", width), RASTER, STEP, *_samplers(model, quick), NATIVE]


def _samplers(model: Model, quick: bool) -> list[Way]:
    windows = sorted(candidate_windows(model.spec.width))
    if quick:
        windows = [windows[0], windows[len(windows) // 2], windows[-1]]
    return [Way("sampler", window) for window in windows]


def _growing(quick: bool) -> Iterator[tuple[str, int, ModelSpec]]:
    for series, members in GROWTH.items():
        for value, spec in members.items():
            if not quick or value in (min(members), max(members)):
                yield series, value, spec


def _results(raws: list[tuple[str, int, Raw]], checks: list[Check], threads: int, command: str) -> Results:
    fastest = max(
        (measured for _, _, raw in raws for _, measured in raw.engines.values()), key=lambda one: one.gemm_rate or 0
    )
    rate = fastest.gemm_rate or 0
    lines: list[Line] = [line for series, value, raw in raws for line in raw.lines(series, value, rate)]
    return Results(
        command=command,
        machine=machine_facts(),
        threads=threads,
        gemm_rate=rate,
        gemm_library=fastest.gemm_library or "",
        near_ties=sum(raw.near_ties for _, _, raw in raws),
        lines=tuple(lines),
        checks=(linear_in_pixels(lines), *checks),
    )


if __name__ == "__main__":
    main()
