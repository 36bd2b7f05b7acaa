"""How close completions come to the picture that was there, by number of candidates and by ranking.

    python -m benchmarks.completions --engine model.onnx --data-dir DIR

A box is cut out of test pictures, whose label is known, and drawn again.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import msgspec
import numpy as np

from gpcnn_deploy.commands.command import Command, json_option, say, write_json
from gpcnn_deploy.pictures.levels import levels_from_pixels
from gpcnn_deploy.system.machine import machine_facts
from gpcnn_runtime.commands.options import batch_size_option, threads_option
from gpcnn_runtime.completions import RankBy, complete
from gpcnn_runtime.inputs.masks import keep_outside
from gpcnn_runtime.sampler import Sampler
from gpcnn_training.data.sources import load_data

CANDIDATES = (1, 4, 16, 64)


class CompletionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One way of choosing a completion.

    Attributes:
        candidates: of how many.
        rank_by: the best by what.
        differing: mean number of pixels drawn that differ from the picture.
        error: standard error of that mean.
        lightness: mean of drawn minus original levels, summed over the box; below 0: emptier than the pictures are.
    """

    candidates: int
    rank_by: RankBy
    differing: float
    error: float
    lightness: float


class CompletionsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, on what, by which command."""

    command: str
    machine: dict[str, str | int]
    engine_digest: str
    box: str
    count: int
    rows: tuple[CompletionRow, ...]


@click.command(cls=Command)
@click.option("--engine", type=click.Path(path_type=Path), required=True, help="A model with labels.")
@click.option("--data", default="mnist", show_default=True, help="Data set; its labels are the model's.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where it lies.  [default: download it]")
@click.option("--box", default="9,9,10,10", show_default=True, help="X,Y,W,H of what is cut out.")
@click.option("--count", type=click.IntRange(2, 10_000), default=200, show_default=True, help="Test pictures.")
@threads_option
@batch_size_option
@json_option
def main(
    engine: Path,
    data: str,
    data_dir: Path | None,
    box: str,
    count: int,
    threads: int | None,
    batch_size: int,
    json_path: Path | None,
) -> None:
    """Measure how well a hole in test pictures is filled, by candidates and by ranking."""
    test = load_data(data, data_dir)
    differing: dict[tuple[int, RankBy], list[int]] = {}
    lighter: dict[tuple[int, RankBy], list[int]] = {}
    begin = time.perf_counter()
    ways: tuple[RankBy, ...] = ("image", "known")
    with Sampler.load(engine, threads, batch_size) as sampler:
        spec = sampler.metadata.spec
        mask = keep_outside(spec, box)
        pictures = levels_from_pixels(test.test_pixels[:count], spec.levels)
        for k, picture in enumerate(pictures):
            # All candidates at once; those of a smaller number are the first of them.
            drawn = complete(sampler, picture, mask, labels=int(test.test_labels[k]), count=max(CANDIDATES), seed=k)
            order = np.argsort(drawn.positions)
            values = {"image": drawn.log_likelihood()[order], "known": drawn.known_log_likelihood()[order]}
            levels = drawn.levels[order].astype(np.int64)
            for candidates in CANDIDATES:
                for rank_by in ways:
                    best = levels[int(values[rank_by][:candidates].argmax())]
                    differing.setdefault((candidates, rank_by), []).append(int((best != picture).sum()))
                    lighter.setdefault((candidates, rank_by), []).append(int((best - picture).sum()))
        digest = sampler.engine.info.digest
    print(f"{len(pictures)} pictures: {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    report = CompletionsReport(
        command=f"python -m benchmarks.completions --engine {engine.name} --data {data} --box {box} --count {count}",
        machine=machine_facts(),
        engine_digest=digest,
        box=box,
        count=len(pictures),
        rows=tuple(
            CompletionRow(
                candidates=candidates,
                rank_by=rank_by,
                differing=float(np.mean(values)),
                error=float(np.std(values, ddof=1) / len(values) ** 0.5),
                lightness=float(np.mean(lighter[candidates, rank_by])),
            )
            for (candidates, rank_by), values in differing.items()
        ),
    )
    write_json(json_path, report)
    for line in markdown(report):
        say(json_path, line)


def markdown(report: CompletionsReport) -> list[str]:
    """The rows as a table: the lines that docs/completing.md has."""
    lines = ["| candidates | ranked by | pixels that differ | lightness |", "|---|---|---|---|"]
    for row in report.rows:
        name = row.rank_by if row.candidates > 1 else "—"
        line = f"| {row.candidates} | {name} | {row.differing:.1f} ± {row.error:.1f} | {row.lightness:+.1f} |"
        if row.candidates > 1 or row.rank_by == "image":
            lines.append(line)
    return lines


if __name__ == "__main__":
    main()
