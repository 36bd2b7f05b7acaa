"""The device of a run, and the precision that trains fastest on it."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator

import torch
from lightning_fabric import Fabric

from gpcnn_deploy.errors import UsageError


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps` → a device that this machine has.

    Raises:
        UsageError: not a device name, or this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (
        number and (kind != "cuda" or not number.isascii() or not number.isdigit())
    ):
        raise UsageError(f"--device {name}: expected auto, cpu, cuda, cuda:0, cuda:1, … or mps")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise UsageError(f"--device {name}: PyTorch sees {count} CUDA GPUs on this machine: try --device auto")
        return torch.device("cuda", int(number or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: PyTorch sees no Apple GPU on this machine: try --device auto")
    return torch.device(kind)


def fastest_threads(work: Callable[[], object]) -> int:
    """How many CPU threads do `work` fastest here and now: one, half of PyTorch's default, or all of them.

    Threads that share their cores with other programs wait for each other: with one core of two busy, two threads take
    a step of `digits` eight times as long as one. A set `OMP_NUM_THREADS` is taken as it is.
    """
    most = torch.get_num_threads()
    if most == 1 or "OMP_NUM_THREADS" in os.environ:
        return most
    seconds = {}
    for threads in sorted({1, (most + 1) // 2, most}):
        with threads_set(threads):
            work()
            times = []
            for _ in range(2):
                began = time.perf_counter()
                work()
                times.append(time.perf_counter() - began)
        seconds[threads] = min(times)
    return min(seconds, key=lambda threads: seconds[threads])


@contextlib.contextmanager
def threads_set(threads: int) -> Iterator[None]:
    """Let PyTorch use so many CPU threads while entered."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_fabric(device: torch.device) -> Fabric:
    """Fabric on one device: bfloat16 autocast on a GPU that has it, float32 elsewhere."""
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    precision = "bf16-mixed" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32-true"
    warnings.filterwarnings("ignore", module="lightning_fabric")
    return Fabric(
        accelerator=device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision=precision,  # type: ignore[arg-type]
    )
