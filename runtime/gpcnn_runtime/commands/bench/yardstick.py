"""The fp32 GEMM rate of one core: the yardstick of `gpcnn-bench`.

    python -m gpcnn_runtime.commands.bench.yardstick

prints a `Yardstick` as one line of JSON. Every library here that multiplies matrices is tried, and the fastest counts:
a slow one would make a floor that is too easy to reach. It runs in a process of its own, because NumPy's library takes
its number of threads from the environment when it is loaded.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import msgspec

from gpcnn_deploy.commands.child import run_child

MODULE = "gpcnn_runtime.commands.bench.yardstick"
SIZES = (256, 384, 512, 768)
"""Edges of NumPy's square matrices: it packs both at each call, which large ones amortize."""

SECONDS = 0.1
"""How long each size is tried, in seconds."""

THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
)


class Yardstick(msgspec.Struct, frozen=True, kw_only=True):
    """What one core does at its best.

    Attributes:
        gemm_rate: fp32 multiply-adds per second, of the fastest library.
        library: its name.
        rates: name of each library that was tried → its rate.
    """

    gemm_rate: float
    library: str
    rates: dict[str, float]


def yardstick() -> Yardstick:
    """Measure in a process of its own."""
    return run_child(MODULE, [], Yardstick)


def numpy_rate(seconds: float = SECONDS) -> float:
    """Peak fp32 rate of NumPy's products of square matrices, multiply-adds per second, on the threads that it has.

    Args:
        seconds: how long each size of `SIZES` is tried.
    """
    import numpy as np

    best = 0.0
    for size in SIZES:
        x, y, out = (np.full((size, size), value, np.float32) for value in (0.5, 0.25, 0.0))
        stop = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < stop:
            np.matmul(x, y, out)
            best = max(best, size**3 / (time.perf_counter() - begin))
    return best


def _libraries() -> dict[str, Callable[[], float]]:
    found: dict[str, Callable[[], float]] = {"NumPy": numpy_rate}
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return found
    from gpcnn_runtime.engines.onnxruntime.gemm import gemm_rate

    return found | {"ONNX Runtime": gemm_rate}


def measure() -> Yardstick:
    """Try every library in this process; NumPy must not have been loaded with more threads than one."""
    rates = {name: rate() for name, rate in _libraries().items()}
    library = max(rates, key=lambda name: rates[name])
    return Yardstick(gemm_rate=rates[library], library=library, rates=rates)


if __name__ == "__main__":
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    sys.stdout.write(msgspec.json.encode(measure()).decode() + "\n")
