"""What the figures must show: cost is linear in pixels at w = 1, and `--window auto` never makes the slower choice."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from benchmarks.measure import Effort, Line, Way, way_of
from benchmarks.models import Model
from gpcnn_export.tuning import tune_schedule
from gpcnn_runtime.commands.bench.report import run_worker
from gpcnn_runtime.commands.bench.worker import BenchJob

LARGEST_EXPONENT = 1.1
"""Of time against pixels; 1 is linear."""

SLOWER = 1.05
"""A median that is this much larger counts as slower; less is noise of the machine."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One claim, whether it held, and the figures."""

    name: str
    passed: bool
    figures: str


def linear_in_pixels(lines: Sequence[Line]) -> Check:
    """Least-squares slope of log time against log pixels over the sides, w = 1."""
    points = {
        line.value: line.row.ms_per_image_p50
        for line in lines
        if line.series == "side" and way_of(line.row) == Way("sampler", 1)
    }
    x = [math.log(side**2) for side in sorted(points)]
    y = [math.log(points[side]) for side in sorted(points)]
    slope = statistics.linear_regression(x, y).slope
    figures = ", ".join(f"{side}×{side}: {points[side] / side**2 * 1e3:.1f} µs a pixel" for side in sorted(points))
    return Check(
        name="Cost grows linearly in pixels (w = 1)",
        passed=slope <= LARGEST_EXPONENT,
        figures=f"time ∝ pixels^{slope:.2f}; {figures}",
    )


def auto_is_not_slower(model: Model, batch: int, effort: Effort, folder: Path, tell: Callable[[str], None]) -> Check:
    """The window that `--window auto` picks, against one pixel at a time, in turn."""
    tell(f"{model.title}, {model.weights}: window auto for batch {batch}")
    picked = tune_schedule(model.model, tell).of(batch)
    seconds: dict[int, list[float]] = {1: [], picked: []}
    for _ in range(max(2, effort.rounds)):
        for window, found in seconds.items():
            # One thread, as the tuning has it.
            job = BenchJob(
                engine=str(model.engine(window)),
                batch=batch,
                threads=1,
                repeat=2,
                min_time=effort.min_time,
                max_time=20,
            )
            found.extend(run_worker(job, folder / "images.npz").seconds)
    one, auto = (statistics.median(seconds[window]) * 1e3 / batch for window in (1, picked))
    return Check(
        name=f"auto is not slower than w = 1: {model.title}, {model.weights}, batch {batch}",
        passed=auto <= SLOWER * one,
        figures=f"auto picks w = {picked}: {auto:.1f} ms an image; w = 1: {one:.1f} ms",
    )
