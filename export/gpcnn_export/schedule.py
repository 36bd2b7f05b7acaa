"""`--window auto`: measure the windows on this machine and take the fastest."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

from gpcnn_export.parity import cpu_session, feeds
from gpcnn_export.sampler import sampler_graph
from gpcnn_training.model import GatedPixelCNN

WORTH = 0.97
"""A window replaces one pixel at a time, the safe choice, only if it takes at most this share of its time."""

ROUNDS = 3
PATIENCE = 30.0
"""Seconds after which no further window is tried; one pixel at a time and the whole row come first."""


def candidate_windows(width: int) -> list[int]:
    """Windows worth measuring, the two extremes first: 1, W, and what lies between at halves of W and small sizes."""
    between = {2, 4, math.ceil(width / 4), math.ceil(width / 2)}
    return [1, *([width] if width > 1 else []), *sorted(w for w in between if 1 < w < width)]


def tune_window(model: GatedPixelCNN, batch: int, tell: Callable[[str], None]) -> int:
    """The window that samples `batch` images fastest on one core of this machine.

    Every candidate draws the same images; the median of a few runs counts. A window other than 1 must win clearly.
    """
    feed = feeds(model.spec, batch, seed=1)[0]
    best, best_seconds = 1, math.inf
    started = time.perf_counter()
    for window in candidate_windows(model.spec.width):
        if time.perf_counter() - started > PATIENCE:
            break
        session = cpu_session(sampler_graph(model, window).SerializeToString())
        times = []
        for _ in range(ROUNDS + 1):  # the first run allocates
            begin = time.perf_counter()
            session.run(["image"], feed)
            times.append(time.perf_counter() - begin)
            if times[-1] > 2 * best_seconds:
                break
        seconds = statistics.median(times[1:] or times)
        tell(f"window {window}: {seconds * 1e3 / batch:.1f} ms an image at batch {batch}")
        if window == 1 or seconds < WORTH * best_seconds:
            best, best_seconds = window, seconds
    return best
