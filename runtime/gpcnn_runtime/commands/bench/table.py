"""The table that `gpcnn-bench` prints, and the notes below it: what each figure means and how it was measured."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from gpcnn_deploy import console
from gpcnn_deploy.baseline import BaselineReport
from gpcnn_runtime.commands.bench.report import BenchReport, BenchRow

EXTRAPOLATED = "≈"


def table(report: BenchReport, engine: str) -> Table:
    """One line per batch size, and one for the baseline where there is one."""
    first = report.rows[0]
    role = first.role if first.role == "sampler" else f"{first.role}, {first.strategy}"
    result = console.table(f"{engine}: {role}, on {report.runs_on}")
    result.add_column("")
    for heading in ("batch", "threads", "window", "ms/image\np50", "\np90", "\np99", "images/s", "× eager", "× floor"):
        result.add_column(heading, justify="right")
    for heading in ("evals\nper image", "peak\nMB", "load\nms"):
        result.add_column(heading, justify="right")
    for row in report.rows:
        result.add_row(*_cells(row))
    return result


def _cells(row: BenchRow) -> list[str]:
    own = EXTRAPOLATED if row.extrapolated else ""
    ratio = EXTRAPOLATED if row.baseline_extrapolated and row.role != "eager" else ""
    return [
        "eager, naive" if row.role == "eager" else row.role,
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
    ]


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
            "MatMul, in cache, on one thread of ONNX Runtime."
        )
    if baselines:
        compared = sum(baseline.identical + baseline.near_ties for baseline in baselines)
        images = f"all {compared} images" if compared > 1 else "the image"
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
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}, "
        f"gpcnn-deploy {machine['gpcnn-deploy']}."
    )
    return lines
