"""The results as a file for programs and a page for people."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.checks import Check
from benchmarks.measure import NAIVE, NATIVE, RASTER, STEP, Line, Way, describe, way_of
from benchmarks.models import SCALE
from gpcnn_runtime.commands.bench.table import EXTRAPOLATED, figure


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run.

    Attributes:
        command: what was typed.
        machine: `gpcnn_deploy.system.machine.machine_facts`.
        threads: of a batch, and of PyTorch.
        gemm_rate: peak fp32 multiply-adds per second of one core, the fastest seen in the run.
        gemm_library: whose matrix product reached it.
        near_ties: comparisons that parted from eager PyTorch at a proven near-tie; all others were identical.
        lines: the results.
        checks: claims, and whether they held.
    """

    command: str
    machine: dict[str, str | int]
    threads: int
    gemm_rate: float
    gemm_library: str = "ONNX Runtime"
    near_ties: int
    lines: tuple[Line, ...]
    checks: tuple[Check, ...]


def markdown(results: Results) -> str:
    """The page."""
    machine = results.machine
    versions = ", ".join(f"{name} {machine[name]}" for name in ("onnxruntime", "torch", "numpy") if name in machine)
    threads = f"{results.threads} thread{'s' if results.threads > 1 else ''}"
    parted = f" {results.near_ties} comparisons parted at a proven near-tie." if results.near_ties else ""
    parts = [
        "# Benchmark: how long one image takes, by way of drawing",
        f"This page was written by `{results.command}`. `make bench` writes it anew.",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['system']}. Every way had {threads}. "
        f"Python {machine['python']}, {versions}, gpcnn-deploy {machine['gpcnn-deploy']}.",
        "All ways draw the same images from the same noise. In this run each way's images were compared with those of "
        f"eager PyTorch, and they were identical.{parted}",
        "## How to read the tables",
        "\n".join(
            (
                "- Times are medians, in milliseconds an image.",
                f"- *{EXTRAPOLATED}*: extrapolated. A full forward pass costs the same for every pixel, so the first "
                "pixels were timed and the rest calculated.",
                "- *× eager*: how many times faster than eager PyTorch with a full forward pass per pixel.",
                "- *× floor*: how many times the arithmetic floor. The floor is the time that the multiply-adds of an "
                f"image take on one core at {results.gemm_rate / 1e9:.1f} G/s. That is the best rate of a core in this "
                f"run: the fastest fp32 matrix product, in cache, on one thread of {results.gemm_library}. Where a "
                "batch is spread over several cores, the time of each core counts.",
                "- *evaluations*: how often the network ran for an image.",
                "- *peak MB*: the most memory that the process took.",
                "- *w*: how many columns a sampler draws at a time.",
                f"- *random × {SCALE:g}*: PyTorch's initial weights, made {SCALE:g} times as large. As they come, "
                "pixels hardly depend on each other, and Jacobi iteration would end after a few evaluations.",
            )
        ),
    ]
    for model in dict.fromkeys((line.model, line.weights) for line in results.lines if line.series == "batch"):
        parts += [f"## By batch size: {model[0]}, {model[1]}", _by_batch(results.lines, model)]
    parts += ["## By size of the model and of the image, batch 1", _growth(results.lines)]
    parts += [
        "## Checks",
        *(f"- {'✓' if check.passed else '✗'} {check.name}. {check.figures}." for check in results.checks),
    ]
    return "\n\n".join(parts).replace(".\n\n- ", ".\n- ") + "\n"


def _by_batch(lines: Sequence[Line], model: tuple[str, str]) -> str:
    mine = [line for line in lines if line.series == "batch" and (line.model, line.weights) == model]
    batches = sorted({line.value for line in mine})
    header = ["way"]
    for batch in batches:
        header += [f"batch {batch}: ms/image", "× eager", "× floor", "evaluations", "peak MB"]
    table = [header]
    for way in dict.fromkeys(way_of(line.row) for line in mine):
        cells = [describe(way)]
        for batch in batches:
            found = [line.row for line in mine if line.value == batch and way_of(line.row) == way]
            if not found:
                cells += ["–"] * 5
                continue
            row = found[0]
            own = EXTRAPOLATED if row.extrapolated else ""
            ratio = EXTRAPOLATED if row.extrapolated or row.baseline_extrapolated else ""
            cells += [
                own + figure(row.ms_per_image_p50),
                "1" if way == NAIVE else ratio + figure(row.speedup_vs_eager),
                own + figure(row.floor_ratio),
                figure(row.evaluations_per_image),
                f"{row.peak_rss_mb:.0f}",
            ]
        table.append(cells)
    return _table(table)


def _growth(lines: Sequence[Line]) -> str:
    mine = [line for line in lines if line.series != "batch"]
    ways = [NAIVE, Way("cached", 1), RASTER, STEP, Way("sampler", 1), NATIVE]
    used = {way_of(line.row) for line in mine}
    ways = [way for way in ways if way in used]
    header = ["", "", *(describe(way) for way in ways), "our sampler, best w > 1", "floor"]
    table = [header]
    for series, value in dict.fromkeys((line.series, line.value) for line in mine):
        here = [line for line in mine if (line.series, line.value) == (series, value)]
        rows = {way_of(line.row): line.row for line in here}
        cells = [series, str(value)]
        for way in ways:
            row = rows.get(way)
            mark = EXTRAPOLATED if row is not None and row.extrapolated else ""
            cells.append("–" if row is None else mark + figure(row.ms_per_image_p50))
        wider = [row for way, row in rows.items() if way.kind == "sampler" and way.window != 1]
        best = min(wider, key=lambda row: row.ms_per_image_p50)
        cells += [f"{figure(best.ms_per_image_p50)} (w = {best.window})", figure(here[0].floor_ms)]
        table.append(cells)
    return _table(table)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    left = sum(1 for cell in head if not cell) or 1
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *body))
