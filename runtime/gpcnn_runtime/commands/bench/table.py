"""The table that `gpcnn-bench` prints, and the notes below it: what each figure means and how it was measured."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from gpcnn_deploy.baseline import BaselineReport
from gpcnn_deploy.commands import console
from gpcnn_deploy.text import counted
from gpcnn_runtime.commands.bench.report import BenchReport, BenchRow

EXTRAPOLATED = "≈"


def table(report: BenchReport, engine: str) -> Table:
    """One line per batch size and engine, and one for the baseline where there is one."""
    first = report.rows[0]
    role = {"sampler": "sampler", "weights": "model file"}.get(first.role, f"{first.role}, {first.strategy}")
    result = console.table(f"{engine}: {role}, on {report.runs_on}")
    result.collapse_padding = True
    result.add_column("", no_wrap=True)
    for heading in ("batch", "threads", "window", "ms/image\np50", "\np90", "\np99", "images/s", "× eager", "× floor"):
        result.add_column(heading, justify="right")
    for heading in ("evals\nper image", "peak\nMB", "load\nms", "cold\nms"):
        result.add_column(heading, justify="right")
    for row in report.rows:
        result.add_row(_what(row, row.engine != first.engine), *_cells(row))
    return result


def _cells(row: BenchRow) -> list[str]:
    own = EXTRAPOLATED if row.extrapolated else ""
    ratio = EXTRAPOLATED if row.baseline_extrapolated and row.role != "eager" else ""
    return [
        str(row.batch),
        str(row.threads),
        "both" if row.role == "sampler" and row.window is None else str(row.window or "–"),
        own + figure(row.ms_per_image_p50),
        figure(row.ms_per_image_p90),
        figure(row.ms_per_image_p99),
        own + figure(row.images_per_s),
        ratio + figure(row.speedup_vs_eager),
        own + figure(row.floor_ratio),
        figure(row.evaluations_per_image),
        f"{row.peak_rss_mb:.0f}" if row.peak_rss_mb else "–",
        f"{row.load_ms:.0f}",
        "–" if row.cold_ms is None else f"{row.cold_ms:.0f}",
    ]


def _what(row: BenchRow, other: bool) -> str:
    if row.role == "eager":
        return "eager, naive"
    name = row.engine if other else {"weights": "native"}.get(row.role, row.role)
    return f"{name}, scores" if row.work == "score" else name


def figure(value: float | None) -> str:
    """A number with three significant digits at least, as people write it; a dash for None."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def notes(report: BenchReport, baselines: Sequence[BaselineReport]) -> list[str]:
    """What the reader of the table has to know."""
    lines = []
    if report.gemm_rate is not None and report.floor_ms is not None:
        lines.append(
            f"× floor: time per image and core over {report.floor_ms:.2f} ms = {report.multiply_adds / 1e6:.0f} M "
            f"multiply-adds at {report.gemm_rate / 1e9:.1f} G/s, the peak of one core in this run: the fastest fp32 "
            f"matrix product, in cache, on one thread of {report.gemm_library}."
        )
    lines += [f"{name}: on {runs_on}." for name, runs_on in report.beside.items()]
    if report.beside and not baselines:
        lines.append("All engines drew the same images.")
    if any(row.work == "score" for row in report.rows):
        lines.append("scores: every sub-pixel is known, and its log-probability is computed; nothing is drawn.")
    if any(row.cold_ms is not None for row in report.rows):
        lines.append("cold: from the start of a process to its first batch, noise included.")
    if baselines:
        compared = sum(baseline.identical + baseline.near_ties for baseline in baselines)
        images = f"all {counted(compared, 'image')}" if compared > 1 else "the image"
        ties = f", {report.near_ties} of them up to a proven near-tie" if report.near_ties else ""
        lines.append(
            f"× eager: over {baselines[0].library}, the full network once per sub-pixel, on the same weights, "
            f"noise and threads; {images} identical{ties}."
        )
    if any(baseline.extrapolated for baseline in baselines):
        parts = ", ".join(f"{baseline.pixels_timed} of {baseline.pixels}" for baseline in baselines)
        lines.append(
            f"{EXTRAPOLATED} extrapolated: the baseline was timed on its first pixels ({parts}), each of which costs "
            "the same; the whole images were proven identical by one forward pass each."
        )
    machine = report.machine
    lines.append(
        f"{machine['cpu']}, {counted(int(machine['cores']), 'core')}, {machine['system']}, Python {machine['python']}, "
        f"gpcnn-deploy {machine['gpcnn-deploy']}."
    )
    return lines
