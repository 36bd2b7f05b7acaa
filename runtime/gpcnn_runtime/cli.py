"""`gpcnn-sample`: draw images on an engine. Heavy imports wait until they are needed, so that it starts quickly."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpcnn_deploy.command import Command
from gpcnn_deploy.errors import EngineError, InterruptedRun, OutputError, UsageError
from gpcnn_runtime.options import (
    batch_size_option,
    engine_option,
    fallback_option,
    label_option,
    provider_option,
    seed_option,
    strategy_option,
    threads_option,
)

if TYPE_CHECKING:
    from gpcnn_deploy.metadata import EngineMetadata
    from gpcnn_runtime.engine import Strategy
    from gpcnn_runtime.providers import Provider
    from gpcnn_runtime.sampler import Sampler, Samples

DEFAULT_ENGINE = Path("model.onnx")
DEFAULT_OUTPUT = {"grid": "sample.png", "png": "samples", "npz": "samples.npz"}
# The most pixels of one picture: image viewers, Pillow among them, refuse larger ones.
MAX_SHEET_PIXELS = 89_000_000
SMALL_SHEET = 256  # a sheet with shorter sides than half of this is hard to see


@click.command(cls=Command)
@engine_option
@label_option
@click.option("--count", type=int, default=1, show_default=True, help="Images of each label.")
@seed_option
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Below 1: less varied; 1: the model.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Where to write.  [default: sample.png, samples/, samples.npz]",
)
@click.option(
    "--output-format",
    type=click.Choice(["grid", "png", "npz"]),
    default="grid",
    show_default=True,
    help="One picture of all images; one PNG per image in a folder; one .npz. The last two go on where they stopped.",
)
@click.option(
    "--scale",
    type=click.IntRange(1, 64),
    help="Picture pixels per image pixel.  [default: 1; a small grid is enlarged to about 256 pixels]",
)
@strategy_option
@provider_option
@fallback_option
@threads_option
@batch_size_option
def main(
    engine_path: Path | None,
    labels: tuple[str, ...],
    count: int,
    seed: int,
    temperature: float,
    output: Path | None,
    output_format: str,
    scale: int | None,
    strategy: Strategy,
    provider: Provider,
    no_fallback: bool,
    threads: int | None,
    batch_size: int,
) -> None:
    """Draw images on an exported engine.

    \b
    gpcnn-sample --engine model.onnx --label 3
    gpcnn-sample --label all --count 10 -o sheet.png
    gpcnn-sample --label 3,5 --count 5000 --output-format npz
    """
    path = output or Path(DEFAULT_OUTPUT[output_format])
    try:
        from gpcnn_runtime.sampler import Sampler

        with Sampler.load(
            _engine_path(engine_path),
            threads,
            batch_size,
            provider=provider,
            fallback=not no_fallback,
            warn=lambda text: click.echo(f"Warning: {text}", err=True),
        ) as sampler:
            order = Order(parse_labels(sampler.metadata, labels), count, seed, temperature, strategy)
            if output_format == "grid":
                _grid(sampler, order, path, scale)
            else:
                _job(sampler, order, path, output_format, scale)
    except KeyboardInterrupt:
        raise InterruptedRun("interrupted: nothing was written") from None
    except MemoryError:
        raise EngineError(f"not enough memory: try --batch-size {max(1, batch_size // 2)}, or --threads 1") from None


@dataclasses.dataclass(frozen=True)
class Order:
    """What to draw: the options of the command that decide the images, and the strategy, which does not."""

    labels: list[int] | None
    count: int
    seed: int
    temperature: float
    strategy: Strategy

    @property
    def total(self) -> int:
        """Images asked for."""
        return self.count * (1 if self.labels is None else len(self.labels))

    def stream(self, sampler: Sampler, positions: Sequence[int] | None = None) -> Generator[Samples, None, None]:
        """`Sampler.stream` of this order; checked when this returns, drawn when it is iterated."""
        return sampler.stream(
            self.labels,
            self.seed,
            self.count,
            temperature=self.temperature,
            strategy=self.strategy,
            positions=positions,
        )


def parse_labels(metadata: EngineMetadata, texts: Sequence[str]) -> list[int] | None:
    """Numbers of the labels asked for: `--label` values, each a name, a number, a comma list, or `all`.

    Raises:
        UsageError: an unknown label, or a label for a model that has none.
    """
    numbers: list[int] = []
    for text in texts:
        if text in metadata.class_names:  # a class name may hold a comma, or be `all`
            numbers.append(metadata.label_number(text))
        elif text == "all" and metadata.class_names:
            numbers.extend(range(len(metadata.class_names)))
        else:
            numbers.extend(metadata.label_number(part.strip()) for part in text.split(","))
    return numbers or None


def _engine_path(given: Path | None) -> Path:
    if given is None and not DEFAULT_ENGINE.exists():
        raise UsageError(f"no {DEFAULT_ENGINE} in this folder: name an engine with --engine, or make one: gpcnn-export")
    return given or DEFAULT_ENGINE


def _grid(sampler: Sampler, order: Order, path: Path, scale: int | None) -> None:
    stream = order.stream(sampler)
    spec, total = sampler.metadata.spec, order.total
    if total * spec.height * spec.width * (scale or 1) ** 2 > MAX_SHEET_PIXELS:
        raise UsageError(
            f"{total} images at scale {scale or 1} are too many for one picture: draw fewer, or add --output-format png"
        )
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; name a file with -o")
    begin = time.perf_counter()
    levels = []
    with _progress(total, sampler) as advance, contextlib.closing(stream):
        for samples in stream:
            levels.append(samples.levels)
            advance(len(samples))
    seconds = time.perf_counter() - begin

    import numpy as np

    from gpcnn_deploy.pictures import grid, pixels_from_levels, save_png

    rows_of_labels = order.labels is not None and len(order.labels) > 1 and order.count > 1
    pixels = pixels_from_levels(np.concatenate(levels), spec.levels)
    sheet = grid(pixels, order.count if rows_of_labels else None)
    save_png(path, sheet, scale or max(1, SMALL_SHEET // max(sheet.shape[:2])))
    _report(sampler, path, total, seconds)


def _job(sampler: Sampler, order: Order, path: Path, output_format: str, scale: int | None) -> None:
    from gpcnn_runtime.jobs import Job, JobOutput, NpzFile, PngFolder

    order.stream(sampler)  # refuses what cannot be drawn before anything is written
    spec, total = sampler.metadata.spec, order.total
    job = Job(
        output_format=output_format,
        engine_digest=sampler.engine.info.digest,
        labels=None if order.labels is None else tuple(order.labels),
        count=order.count,
        seed=order.seed,
        temperature=order.temperature,
        scale=(scale or 1) if output_format == "png" else 1,
    )
    place: JobOutput = PngFolder(path, job, spec) if output_format == "png" else NpzFile(path, job, spec)
    missing = place.open()
    begin = time.perf_counter()
    stream = order.stream(sampler, missing)
    try:
        with _progress(total, sampler) as advance, contextlib.closing(stream):
            advance(total - len(missing))
            for samples in stream:
                place.add(samples)
                advance(len(samples))
        place.finish()
    except KeyboardInterrupt:
        raise InterruptedRun(
            f"interrupted: {place.keep()} of {total} images are kept for {path}; the same command goes on from there"
        ) from None
    _report(sampler, path, len(missing), time.perf_counter() - begin, total - len(missing))


@contextlib.contextmanager
def _progress(total: int, sampler: Sampler) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for people who wait: more than one round of parts, and a terminal to show it on."""
    if total <= sampler.threads * sampler.batch_size or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("drawing", total=total)
        yield lambda images: progress.advance(task, images)


def _report(sampler: Sampler, path: Path, drawn: int, seconds: float, there: int = 0) -> None:
    metadata, info = sampler.metadata, sampler.engine.info
    spec = metadata.spec
    images = f"{drawn + there} image{'s' if drawn + there > 1 else ''} of {spec.height}×{spec.width}"
    if there:
        images += f", {there} of them drawn before"
    each = f" ({seconds / drawn * 1e3:.1f} ms an image)" if drawn else ""
    took = f"{seconds * 1e3:.1f} ms" if seconds < 10 else f"{seconds:.1f} s"
    click.echo(f"{path}: {images}, in {took}{each}")
    role = f"sampler, window {metadata.window}" if metadata.role == "sampler" else "step"
    threads = max(1, min(sampler.threads, drawn))
    click.echo(
        f"engine: {info.path} ({role}) on {info.runtime} {info.version}, {info.provider}, "
        f"{threads} thread{'s' if threads > 1 else ''}"
    )
