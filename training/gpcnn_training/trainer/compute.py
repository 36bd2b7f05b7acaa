"""How a run computes: threads, precision, compiled or eager. Measured where the user leaves it open, then kept.

It is kept because it decides the last bits of every sum: a resumed run computes as it did before.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import msgspec
import torch
from torch import nn

from gpcnn_deploy.errors import TrainingError
from gpcnn_deploy.system.machine import available_cores
from gpcnn_deploy.text import counted

PrecisionChoice = Literal["auto", "fp32", "bf16"]
CompileChoice = Literal["auto", "on", "off"]

WORTH_COMPILING = 300.0  # seconds that a run must be expected to take: compiling takes up to a minute
_TIMED_STEPS = 3


class Compute(msgspec.Struct, frozen=True, kw_only=True):
    """How a step is computed.

    Attributes:
        threads: CPU threads of each process.
        precision: of the network's arithmetic under autocast; weights, loss and optimizer are fp32 always.
        compiled: by `torch.compile`.
        device: kind of device that it was measured on.
        processes: of the run.
        images_per_second: of one process, as it was measured; None if it was not.
    """

    threads: Annotated[int, msgspec.Meta(ge=1)]
    precision: Literal["fp32", "bf16"] = "fp32"
    compiled: bool = False
    device: str = "cpu"
    processes: Annotated[int, msgspec.Meta(ge=1)] = 1
    images_per_second: float | None = None

    def describe(self) -> str:
        """In words: `2 threads, fp32, compiled`."""
        return f"{counted(self.threads, 'thread')}, {self.precision}" + (", compiled" if self.compiled else "")


@contextlib.contextmanager
def threads_set(threads: int) -> Iterator[None]:
    """Let PyTorch use so many CPU threads while entered."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def limit_threads() -> None:
    """Let PyTorch use no more CPU threads than a container leaves cores, of which it knows nothing itself.

    A set `OMP_NUM_THREADS` is taken as it is.
    """
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > available_cores():
        torch.set_num_threads(available_cores())


def prepared(model: nn.Module, compute: Compute) -> nn.Module:
    """The module to call for a training step: the model itself, or compiled; both work on the same weights."""
    if not compute.compiled:
        return model
    logging.getLogger("torch._inductor").setLevel(logging.ERROR)
    compiled: nn.Module = torch.compile(model)  # type: ignore[assignment]
    return compiled


def autocast(device: torch.device, compute: Compute) -> contextlib.AbstractContextManager[object]:
    """The context of the network's forward pass."""
    return torch.autocast(device.type, torch.bfloat16, enabled=compute.precision == "bf16")


def choose(
    step: Callable[[Compute], object],
    batch_size: int,
    device: torch.device,
    processes: int,
    precision: PrecisionChoice,
    compiling: CompileChoice,
    seconds_left: Callable[[float], float],
    note: Callable[[str], None],
) -> Compute:
    """The fastest way to compute a step here and now, among those that the user allows.

    Threads that share their cores with other programs wait for each other: with one core of two busy, two threads can
    take a step eight times as long as one. So their number is measured too; a set `OMP_NUM_THREADS` is taken as it is.

    Args:
        step: computes a step as it is told, without taking it.
        batch_size: images of one process's part of a step.
        device: of the run.
        processes: of this machine, which share its cores.
        precision: `auto` measures.
        compiling: `auto` measures, if a run is expected to take long enough.
        seconds_left: images per second of one process → seconds that the run will take.
        note: told what is being measured, if that takes long.

    Raises:
        TrainingError: compiling was asked for and fails.
    """

    def fastest(*candidates: Compute) -> Compute:
        times = _seconds({c: lambda c=c: step(c) for c in candidates}, device)  # type: ignore[misc]
        best = min(candidates, key=lambda candidate: times[candidate])
        return msgspec.structs.replace(best, images_per_second=round(batch_size / times[best], 1))

    first: Literal["fp32", "bf16"] = "fp32" if precision == "auto" else precision
    numbers = thread_numbers(processes) if device.type == "cpu" else [torch.get_num_threads()]
    best = fastest(*(Compute(threads=number, precision=first) for number in numbers))
    if precision == "auto" and (device.type != "cuda" or torch.cuda.is_bf16_supported()) and device.type != "mps":
        best = fastest(best, msgspec.structs.replace(best, precision="bf16"))
    worth = seconds_left(best.images_per_second or 1.0) >= WORTH_COMPILING
    if compiling == "off" or (compiling == "auto" and (device.type == "mps" or not worth)):
        return best
    note("compiling the network, which takes up to a minute")
    try:
        compiled = fastest(msgspec.structs.replace(best, compiled=True))
    except Exception as error:  # whatever the compiler at hand raises: none is there, or it fails
        if compiling == "on":
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise TrainingError(f"torch.compile fails here ({reason[0]}): train with --compile off") from error
        torch._dynamo.reset()
        note("torch.compile fails here; going on without")
        return best
    if compiling == "on":
        return compiled
    return fastest(best, compiled)


def thread_numbers(processes: int = 1) -> list[int]:
    """Numbers of CPU threads to choose from: one, half of a process's share of PyTorch's default, or all of it."""
    most = max(1, torch.get_num_threads() // processes)
    return [torch.get_num_threads()] if "OMP_NUM_THREADS" in os.environ else sorted({1, (most + 1) // 2, most})


def fastest_threads(work: Callable[[], object]) -> int:
    """How many CPU threads do `work` fastest here and now."""
    numbers = thread_numbers()
    if len(numbers) == 1:
        return numbers[0]
    times = _seconds({Compute(threads=number): work for number in numbers}, torch.device("cpu"))
    return min(times, key=lambda compute: times[compute]).threads


def _seconds(works: dict[Compute, Callable[[], object]], device: torch.device) -> dict[Compute, float]:
    """Least seconds of a call of each, after one to warm up: taken in turn, so that a busy machine treats all alike."""

    def finished() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    least = dict.fromkeys(works, math.inf)
    for turn in range(1 + _TIMED_STEPS):
        for compute, work in works.items():
            with threads_set(compute.threads):
                began = finished()
                work()
                if turn:
                    least[compute] = min(least[compute], finished() - began)
    return least
