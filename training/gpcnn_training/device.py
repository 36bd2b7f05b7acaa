"""The device of a run, and the precision that trains fastest on it."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

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


_WORTH_THREADS = 1e9  # multiply-adds of a forward pass


@contextlib.contextmanager
def fitting_threads(device: torch.device, multiply_adds: int) -> Iterator[None]:
    """On a CPU, one thread for steps so small that threads would mostly wait for each other.

    With every core free, two threads take such a step hardly faster than one; with one of two cores busy, eight times
    slower. `OMP_NUM_THREADS` overrides.
    """
    threads = torch.get_num_threads()
    if device.type == "cpu" and multiply_adds < _WORTH_THREADS and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
