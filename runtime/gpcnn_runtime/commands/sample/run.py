"""One run of `gpcnn-sample`: draw what was ordered, write it, tell what was done. Heavy imports wait, as in `cli`."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpcnn_deploy.commands.command import STDOUT, say, write_json
from gpcnn_deploy.commands.console import progress, taken
from gpcnn_deploy.commands.outputs import Output, check_outputs
from gpcnn_deploy.errors import InterruptedRun, UsageError
from gpcnn_deploy.pictures.changes import changed_so_far
from gpcnn_deploy.text import counted, spanned

if TYPE_CHECKING:
    from gpcnn_runtime.commands.sample.complete_job import ToComplete
    from gpcnn_runtime.commands.sample.given import Given
    from gpcnn_runtime.commands.sample.jobs import Job
    from gpcnn_runtime.commands.sample.report import CompletionReport, ImageReport
    from gpcnn_runtime.conditions import Conditions
    from gpcnn_runtime.engines.base import Strategy
    from gpcnn_runtime.sampler import Sampler
    from gpcnn_runtime.samples import Samples

# The most pixels of one picture: image viewers, Pillow among them, refuse larger ones.
MAX_SHEET_PIXELS = 89_000_000
SMALL_SHEET = 256  # a sheet with shorter sides than half of this is hard to see


@dataclasses.dataclass(frozen=True, eq=False)
class Order:
    """What to draw, checked, and what does not change the images.

    Attributes:
        conditions: what decides the images.
        strategy: schedule of a step engine.
        given: what they are drawn from, where that is no label.
        any_label: no label was named, and the pixels that a completion keeps choose it.
        from_zoo: the engine is the zoo's, since none was named and none is in the folder.
        span: positions of the images that are drawn; None for all.
    """

    conditions: Conditions
    strategy: Strategy
    given: Given | None = None
    any_label: bool = False
    from_zoo: bool = False
    span: range | None = None

    @property
    def positions(self) -> range:
        """Positions of the images that are drawn."""
        return range(self.conditions.total) if self.span is None else self.span

    @property
    def part(self) -> tuple[int, int] | None:
        """(start, stop) of them, where they are a part; else None."""
        span = self.positions
        return None if len(span) == self.conditions.total else (span.start, span.stop)

    @property
    def labels(self) -> tuple[int, ...] | None:
        """Labels that were named; None for a model without labels, too."""
        label = self.conditions.label
        return None if label is None or self.any_label else tuple(label.tolist())


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the results go, and in which form."""

    path: Path
    output_format: str
    scale: int | None
    json_path: Path | None

    def check(self) -> None:
        """Refuse names that say something else than the format, and places that cannot be written.

        Raises:
            UsageError: another suffix, or one file for two results.
            OutputError: a folder where a file should be, or nothing can be written there.
        """
        suffix, ends = self.path.suffix.lower(), f"-o {self.path} ends in '{self.path.suffix}'"
        if self.output_format == "png":
            if suffix in (".png", ".npz"):
                raise UsageError(f"{ends}, but --output-format png writes a folder of pictures: name a folder")
        elif self.output_format == "npz":
            if suffix not in ("", ".npz"):
                raise UsageError(f"{ends}, but --output-format npz writes an .npz: name it so")
        elif suffix == ".npz":
            raise UsageError(f"{ends}, which is no picture: name a .png, or add --output-format npz")
        elif suffix not in ("", ".png"):
            raise UsageError(f"{ends}, but pictures are written as .png alone: name it so")
        outputs = [Output("-o", self.path, "folder" if self.output_format == "png" else "file")]
        check_outputs(outputs if self.json_path is None else [*outputs, Output("--json", self.json_path)])

    @property
    def said(self) -> Path | None:
        """What `say` is told: standard output, where a result goes there."""
        return STDOUT if taken(self.path, self.json_path) else None


def draw_grid(sampler: Sampler, order: Order, place: Place) -> None:
    """Draw everything onto one picture."""
    conditions = order.conditions
    stream = sampler.draw(conditions, order.strategy)
    total, path = conditions.total, place.path
    _refuse_large(sampler, total + (0 if order.given is None else order.given.shown), place)
    begin = time.perf_counter()
    drawn: list[Samples] = []
    with _progress(total, sampler) as advance, contextlib.closing(stream):
        for samples in stream:
            drawn.append(samples)
            advance(len(samples))
    seconds = time.perf_counter() - begin

    import numpy as np

    from gpcnn_deploy.pictures.levels import grid, save_png

    if order.given is not None:
        of_codes = sampler.metadata.vqvae is not None
        made = np.concatenate([samples.pixels() if of_codes else samples.levels for samples in drawn])
        sheet = order.given.sheet(made, conditions.count)
    else:
        pixels = np.concatenate([samples.pixels() for samples in drawn])
        rows_of_labels = 1 < conditions.count < total
        sheet = grid(pixels, conditions.count if rows_of_labels else None)
    save_png(path, sheet, place.scale or max(1, SMALL_SHEET // max(sheet.shape[:2])))
    _tell(sampler, order, place, _images(order, sampler), total, seconds, _listed(sampler, place, drawn))


def _refuse_large(sampler: Sampler, images: int, place: Place) -> None:
    spec, scale = sampler.metadata.pictures, place.scale or 1
    if images * spec.height * spec.width * scale**2 > MAX_SHEET_PIXELS:
        raise UsageError(
            f"{counted(images, 'image')} at scale {scale}: too many pixels for one picture: draw fewer, or add "
            "--output-format png"
        )


def draw_job(sampler: Sampler, order: Order, place: Place) -> None:
    """Draw a long job: pictures in a folder, or an .npz; go on where an earlier run of it stopped."""
    from gpcnn_deploy.system.files import is_stream
    from gpcnn_runtime.commands.sample.jobs import JobOutput, NpzFile, PngFolder

    sampler.draw(order.conditions, order.strategy)  # refuses what it cannot draw before anything is written
    spec, whole, span, path = sampler.metadata.spec, order.conditions.total, order.positions, place.path
    total = len(span)
    job = _as_job(sampler, order, place)
    output: JobOutput
    if job.output_format == "png":
        output = PngFolder(path, job, spec, whole, span)
    else:
        import numpy as np

        more = {} if order.given is None else order.given.arrays()
        if sampler.metadata.class_names:
            more["class_names"] = np.array(sampler.metadata.class_names)
        output = NpzFile(path, job, spec, whole, more, span, sampler.metadata.vqvae)
    listed: list[ImageReport] = []
    with contextlib.closing(output):
        missing = output.open()
        begin = time.perf_counter()
        stream = sampler.draw(order.conditions, order.strategy, missing)
        try:
            with _progress(total, sampler) as advance, contextlib.closing(stream):
                advance(total - len(missing))
                for samples in stream:
                    output.add(samples)
                    listed += _listed(sampler, place, [samples])
                    advance(len(samples))
            output.finish()
        except KeyboardInterrupt:
            if is_stream(path):
                raise InterruptedRun("interrupted: nothing was written") from None
            raise InterruptedRun(
                f"interrupted: kept {output.keep()} of {counted(total, 'image')} for {path}; the same command goes on "
                "from there"
            ) from None
        except Exception:
            with contextlib.suppress(Exception):  # what was drawn is kept, and the error told is the first one
                output.keep()
            raise
    seconds, there = time.perf_counter() - begin, total - len(missing)
    images = _images(order, sampler) + (f", {there} of them drawn before" if there else "")
    _tell(sampler, order, place, images, len(missing), seconds, listed, there)


def _as_job(sampler: Sampler, order: Order, place: Place) -> Job:
    from gpcnn_runtime.commands.sample.jobs import Job

    conditions = order.conditions
    return Job(
        output_format=place.output_format,
        engine_digest=sampler.engine.info.digest,
        labels=order.labels,
        class_names=tuple(sampler.metadata.class_names[label] for label in order.labels or ()),
        count=conditions.count,
        seed=conditions.seed,
        temperature=conditions.temperature,
        scale=(place.scale or 1) if place.output_format == "png" else 1,
        **({} if order.given is None else order.given.job()),
        positions=order.part if place.output_format == "npz" else None,
    )


def draw_completions(sampler: Sampler, order: Order, place: Place, asked: ToComplete) -> None:
    """Complete a picture, rank the completions, and write them."""
    import msgspec

    from gpcnn_runtime.commands.sample import complete_job
    from gpcnn_runtime.completions import complete, known_first

    conditions = order.conditions
    levels, mask = asked.read(sampler.metadata)
    digest = complete_job.known_digest(levels, mask)
    of_codes = sampler.metadata.vqvae is not None
    if of_codes:
        pixels, kept = levels.astype("uint8"), mask
        levels, mask = complete_job.as_codes(sampler.engine, pixels, kept)
    if place.output_format == "grid":
        _refuse_large(sampler, conditions.count + 2, place)
    plain = _as_job(sampler, order, place)
    job = msgspec.structs.replace(plain, known_digest=digest, candidates=asked.candidates, rank_by=asked.rank_by)
    complete_job.refuse_place(place.path, job)
    tried = 1 if conditions.label is None or known_first(mask[None]) else len(set(conditions.label.tolist()))
    with _progress(conditions.count * asked.candidates * tried, sampler) as advance:
        completions = complete(
            sampler,
            levels,
            mask,
            labels=conditions.label,
            embedding=conditions.embedding,
            map=conditions.map,
            count=conditions.count,
            candidates=asked.candidates,
            seed=conditions.seed,
            temperature=conditions.temperature,
            rank_by=asked.rank_by,
            strategy=order.strategy,
            progress=advance,
        )
    if of_codes:
        completions = completions.of_picture(pixels, kept)
    complete_job.write_completions(place.path, job, completions, place.scale, sampler.metadata.class_names)
    listed, report = [], None
    if place.json_path is not None:
        from gpcnn_runtime.commands.sample.report import ranked_reports

        listed = list(ranked_reports(sampler.metadata, completions))
        report = complete_job.completion_report(asked, completions)
    words = complete_job.in_words(asked, completions)
    _tell(
        sampler,
        order,
        place,
        words,
        completions.drawn,
        completions.seconds,
        listed,
        completion=report,
    )
    say(place.said, complete_job.ranking(asked, sampler.metadata, completions))


def _progress(total: int, sampler: Sampler) -> contextlib.AbstractContextManager[Callable[[int], None]]:
    """A bar for people who wait: more than one round of parts."""
    return progress("drawing", lambda: total, hidden=total <= sampler.threads * sampler.batch_size)


def _listed(sampler: Sampler, place: Place, drawn: Sequence[Samples]) -> list[ImageReport]:
    """What `--json` tells about images; nothing where nobody asks."""
    if place.json_path is None:
        return []
    from gpcnn_runtime.commands.sample.report import image_reports

    return [report for samples in drawn for report in image_reports(sampler.metadata, samples)]


def _images(order: Order, sampler: Sampler) -> str:
    spec, count = sampler.metadata.pictures, len(order.positions)
    given = "" if order.given is None else f" {order.given}"
    part = ""
    if order.part is not None:
        part = f", positions {spanned(order.part[0], order.part[1] - 1)} of {order.conditions.total}"
    return f"{counted(count, 'image')} of {spec.height}×{spec.width}{given}{part}"


def _tell(
    sampler: Sampler,
    order: Order,
    place: Place,
    images: str,
    drawn: int,
    seconds: float,
    listed: Sequence[ImageReport],
    there: int = 0,
    completion: CompletionReport | None = None,
) -> None:
    """Say what was written, in which time and by what; and as JSON, where that is asked for."""
    from gpcnn_runtime.zoo.catalogue import engine_name

    metadata, info = sampler.metadata, sampler.engine.info
    if place.json_path is not None:  # first: the words may find no reader
        from gpcnn_runtime.commands.sample.report import SampleReport
        from gpcnn_runtime.engines.report import engine_report

        report = SampleReport(
            output=str(place.path),
            output_format=place.output_format,
            engine=engine_report(sampler.engine, sampler.threads),
            labels=order.labels,
            **({} if order.given is None else order.given.report()),
            count=order.conditions.count * order.conditions.same_noise,
            seed=order.conditions.seed,
            temperature=order.conditions.temperature,
            positions=order.part,
            drawn_before=there,
            seconds=seconds,
            ms_per_image=seconds / drawn * 1e3 if drawn else None,
            images=tuple(listed),
            completion=completion,
        )
        write_json(place.json_path, report)
    each = f" ({seconds / drawn * 1e3:.1f} ms an image)" if drawn else ""
    took = f"{seconds * 1e3:.1f} ms" if seconds < 10 else f"{seconds:.1f} s"
    output = "standard output" if place.path == STDOUT else place.path
    say(place.said, f"{output}: {images}, in {took}{each}")
    role = metadata.role_words + (", as no engine is in this folder" if order.from_zoo else "")
    threads = max(1, min(sampler.threads, drawn))
    say(
        place.said,
        f"engine: {engine_name(info.path)} ({role}) on {info.runtime} {info.version}, {info.provider}, "
        f"{counted(threads, 'thread')}",
    )
    if metadata.preparation is not None and (prepared := changed_so_far()):
        say(
            place.said,
            f"{counted(prepared, 'picture')} did not fit; prepared as in training: {metadata.preparation}",
        )
