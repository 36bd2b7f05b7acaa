"""What this process may use of the machine, what a measurement was made on, and how much memory it took."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import gpcnn_deploy
from gpcnn_deploy.system import cgroups

MB_OF_A_THREAD = 128
"""Memory that there must be for each thread of a default number of threads."""


def machine_facts() -> dict[str, str | int]:
    """The machine, for people who compare figures: CPU model, cores, memory in MB, system, and versions of packages.

    Of cores and memory it names what this process may use; `cpu_limit` and `memory_limit_mb` are there where a
    container leaves less than the machine has.
    """
    import importlib.metadata  # with platform, milliseconds that only who measures must pay
    import platform

    facts: dict[str, str | int] = {
        "cpu": _cpu(),
        "cores": available_cores(),
        "memory_mb": available_memory_mb(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "gpcnn-deploy": gpcnn_deploy.__version__,
    }
    if (cpus := cgroups.cpu_limit()) is not None:
        facts["cpu_limit"] = f"{cpus:g}"
    if (limit := memory_limit_mb()) is not None:
        facts["memory_limit_mb"] = limit
    for package in ("numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "torch"):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return facts


def available_cores() -> int:
    """Cores that this process may use: those of its CPU set, but no more than a container's quota keeps busy."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroups.cpu_limit()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def default_threads() -> int:
    """Threads to draw with where nobody says: one for each core, but no more than memory is there for."""
    memory = available_memory_mb()
    return min(available_cores(), max(1, memory // MB_OF_A_THREAD)) if memory else available_cores()


def available_memory_mb() -> int:
    """Memory that this process may use, in MB (10**6 bytes): the machine's, or less in a container; 0: unknown."""
    there = _memory_mb()
    limit = memory_limit_mb()
    return there if limit is None else limit


def memory_limit_mb() -> int | None:
    """Memory that a container leaves to this process, in MB; None where that is all that the machine has."""
    limit = cgroups.memory_limit()
    there = _memory_mb()
    return None if limit is None or (there and limit // 1_000_000 >= there) else limit // 1_000_000


def of_memory() -> str:
    """For a message about memory that ran out: ` (512 MB of memory are allowed here)`, or nothing without a limit."""
    limit = memory_limit_mb()
    return "" if limit is None else f" ({limit} MB of memory are allowed here)"


def peak_rss_mb() -> float:
    """Most memory that this process has held so far, in MB (10**6 bytes); 0 where the system does not tell."""
    try:
        # Not ru_maxrss: Linux lets that begin at the size of the process that started this one.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine()


def _memory_mb() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000
    except (AttributeError, ValueError, OSError):
        return 0
