"""`--window auto`: measure the windows on this machine and take the fastest, for one image and for large batches."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

from gpcnn_deploy.schedule import Schedule
from gpcnn_export.onnx_engine import draft_engine
from gpcnn_export.proof.parity import draw_on, feeds
from gpcnn_training.architectures import Prior

WORTH = 0.97
"""A window replaces one pixel at a time, the safe choice, only if it takes at most this share of its time."""

LARGE_BATCH = 32
"""Images of a large batch: what a thread gets of 64 on two cores."""

ROUNDS = 3
LONG = 10.0
"""Seconds of runs after which a window is not run again."""
PATIENCE = 30.0
"""Seconds after which no further window is tried; one pixel at a time and the whole row come first."""


def candidate_windows(width: int) -> list[int]:
    """Windows worth measuring, the two extremes first: 1, W, and what lies between at halves of W and small sizes."""
    between = {2, 4, math.ceil(width / 4), math.ceil(width / 2)}
    return [1, *([width] if width > 1 else []), *sorted(w for w in between if 1 < w < width)]


def tune_schedule(model: Prior, tell: Callable[[str], None]) -> Schedule:
    """The schedule that samples fastest on one core of this machine: a single image, and batches.

    A second window must win clearly, for it makes the file twice as large. It serves batches of 32 images on, or of 16,
    8, 4 or 2, as long as it wins at each.
    """
    window, batch_window = tune_window(model, 1, tell), tune_window(model, LARGE_BATCH, tell, many=True)
    if window == batch_window:
        return Schedule(window)
    few, many = _Draw(model, window), _Draw(model, batch_window, many=True)
    batch_from, batch, shown = None, LARGE_BATCH, []
    started = time.perf_counter()
    while batch > 1 and (batch_from is None or time.perf_counter() - started < PATIENCE):
        tell(f"measuring windows {window} and {batch_window} at batch {batch}")
        seconds = few.seconds(batch)
        other = many.seconds(batch, 2 * seconds)
        shown.append(f"{_ms(seconds, batch)} or {_ms(other, batch)} at {batch}")
        if other > WORTH * seconds:
            break
        batch_from, batch = batch, batch // 2
    schedule = Schedule(window) if batch_from is None else Schedule(window, batch_window, batch_from)
    tell(f"window {window} or {batch_window}, ms an image: {', '.join(shown)} images. Taken: {schedule}")
    return schedule


def tune_window(model: Prior, batch: int, tell: Callable[[str], None], many: bool = False) -> int:
    """The window that samples `batch` images fastest on one core of this machine; `many`: as a second window.

    Every candidate draws the same images; the median of a few runs counts. A window other than 1 must win clearly.
    """
    best, best_seconds, shown = 1, math.inf, []
    started = time.perf_counter()
    for window in candidate_windows(model.spec.width):
        if time.perf_counter() - started > PATIENCE:
            break
        tell(f"measuring window {window} at batch {batch}")
        seconds = _Draw(model, window, many).seconds(batch, 2 * best_seconds)
        shown.append(f"{window}: {_ms(seconds, batch)}")
        if window == 1 or seconds < WORTH * best_seconds:
            best, best_seconds = window, seconds
    tell(f"windows at batch {batch}, ms an image: {', '.join(shown)}. Best: {best}")
    return best


def _ms(seconds: float, batch: int) -> str:
    return f"{seconds * 1e3 / batch:.1f}"


class _Draw:
    """A sampler of one window, to be timed."""

    def __init__(self, model: Prior, window: int, many: bool = False) -> None:
        self._spec, self._draw = model.spec, draw_on(draft_engine(model, "sampler", window, many=many).load())

    def seconds(self, batch: int, enough: float = math.inf) -> float:
        """Median time of a batch, of fewer runs where one takes over `enough` seconds or all over LONG."""
        feed = feeds(self._spec, batch, seed=1)[0]
        times: list[float] = []
        for _ in range(ROUNDS + 1):  # the first run allocates
            begin = time.perf_counter()
            self._draw(feed)
            times.append(time.perf_counter() - begin)
            if times[-1] > enough or sum(times) > LONG:
                break
        return statistics.median(times[1:] or times)
