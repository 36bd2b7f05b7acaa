"""The chart of the README: time an image by batch size, and by image side, on a logarithmic scale."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measure import NAIVE, NATIVE, RASTER, STEP, Way, describe, way_of
from benchmarks.report import Results

STYLE: dict[str, tuple[str, str]] = {
    "naive": ("#9b2226", "o"),
    "raster": ("#ca6702", "s"),
    "cached": ("#7f6d9c", "D"),
    "step": ("#0a9396", "^"),
    "sampler": ("#005f73", "o"),
    "native": ("#bb9000", "v"),
}
"""Colour and marker of each way."""


def draw(results: Results, path: Path) -> None:
    """Write the chart as a PNG."""
    mpl.use("Agg")
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _by_batch(left, results)
    _by_side(right, results)
    machine = results.machine
    figure.suptitle("Time to draw one image: the same noise, the same weights, identical images", fontsize=13)
    figure.text(
        0.5,
        -0.035,
        f"{machine['cpu']}, {machine['cores']} cores, threads: {results.threads}; ONNX Runtime "
        f"{machine['onnxruntime']}, PyTorch {machine['torch']}; hollow: extrapolated from the first pixels",
        ha="center",
        fontsize=9,
        color="#444444",
    )
    figure.savefig(path, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})


def _by_batch(axes: Axes, results: Results) -> None:
    first = next(line for line in results.lines if line.series == "batch")
    mine = [line for line in results.lines if line.series == "batch" and line.weights == first.weights]
    mine = [line for line in mine if line.model == first.model]
    batches = sorted({line.value for line in mine})
    ways = list(dict.fromkeys(way_of(line.row) for line in mine))
    samplers = [way for way in ways if way.kind == "sampler"]
    # Of our sampler the two ends, and the best of all windows at each batch size.
    ends = {samplers[0], samplers[-1]}
    ways = [way for way in ways if way.kind != "sampler" or way in ends]
    width = 0.8 / len(ways)
    for place, way in enumerate(ways):
        colour, _ = STYLE[way.kind]
        for position, batch in enumerate(batches):
            for line in mine:
                if line.value != batch or way_of(line.row) != way:
                    continue
                x = position - 0.4 + (place + 0.5) * width
                hollow = line.row.extrapolated
                axes.bar(
                    x,
                    line.row.ms_per_image_p50,
                    width * 0.9,
                    color="none" if hollow else colour,
                    edgecolor=colour,
                    alpha=1.0 if way.window in (None, 1) else 0.6,
                    label=describe(way) if position == 0 else None,
                )
                text = _short(line.row.ms_per_image_p50)
                axes.annotate(
                    text, (x, line.row.ms_per_image_p50), (0, 2), textcoords="offset points", ha="center", fontsize=7
                )
    for position, batch in enumerate(batches):
        floor = first.floor_ms / min(results.threads, batch)
        label = "arithmetic floor of the cores in use" if position == 0 else None
        axes.plot((position - 0.45, position + 0.45), (floor, floor), color="black", linestyle=":", label=label)
    axes.set_yscale("log")
    axes.set_xticks(range(len(batches)), [f"batch {batch}" for batch in batches])
    axes.set_ylabel("ms an image")
    axes.set_title(f"{first.model} ({first.weights})", fontsize=10)
    axes.legend(fontsize=8, frameon=False, loc="upper center", ncols=2)
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.5, high * 40)
    axes.spines[["top", "right"]].set_visible(False)


def _by_side(axes: Axes, results: Results) -> None:
    mine = [line for line in results.lines if line.series == "side"]
    widest = max(line.value for line in mine)
    for way in (NAIVE, RASTER, Way("cached", 1), STEP, Way("sampler", 1), Way("sampler", 0), NATIVE):
        colour, marker = STYLE[way.kind]
        whole_row = way.window == 0
        found = [
            line
            for line in mine
            if (way_of(line.row) == way or (whole_row and way_of(line.row) == Way("sampler", line.value)))
        ]
        if not found:
            continue
        found.sort(key=lambda line: line.value)
        sides = [line.value for line in found]
        times = [line.row.ms_per_image_p50 for line in found]
        label = "our sampler, w = the whole row" if whole_row else describe(way)
        axes.plot(sides, times, color=colour, linestyle="--" if whole_row else "-", linewidth=1.5, label=label)
        for line in found:
            face = "white" if line.row.extrapolated else colour
            axes.plot(line.value, line.row.ms_per_image_p50, marker=marker, color=colour, markerfacecolor=face)
    floor = sorted({(line.value, line.floor_ms) for line in mine})
    axes.plot(
        *zip(*floor, strict=True), color="black", linestyle=":", linewidth=1, label="arithmetic floor of one core"
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    sides = sorted({line.value for line in mine})
    axes.set_xticks(sides, [f"{side}×{side}" for side in sides], rotation=30)
    axes.minorticks_off()
    axes.set_xlim(sides[0] / 1.1, widest * 1.1)
    axes.set_title("by image side, batch 1, 12 layers × 32, 2 levels (random weights)", fontsize=10)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * 30)
    axes.spines[["top", "right"]].set_visible(False)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
