"""What a measurement was made on, and how much memory it took."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import gpcnn_deploy


def machine_facts() -> dict[str, str | int]:
    """The machine, for people who compare figures: CPU model, cores, memory in MB, system, and versions of packages."""
    import importlib.metadata  # with platform, milliseconds that only who measures must pay
    import platform

    facts: dict[str, str | int] = {
        "cpu": _cpu(),
        "cores": available_cores(),
        "memory_mb": _memory_mb(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "gpcnn-deploy": gpcnn_deploy.__version__,
    }
    for package in ("numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "torch"):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return facts


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
