"""Limits of a container: CPU time and memory that Linux control groups, version 1 or 2, leave to this process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

ROOT = Path("/")
_UNLIMITED = 1 << 60  # version 1 writes the largest number of pages that there is


class _Mount(NamedTuple):
    """A mounted hierarchy: the part of it that is seen, where, and the controllers of version 1 (none: version 2)."""

    part: str
    point: Path
    controllers: frozenset[str]


def cpu_limit(root: Path = ROOT) -> float | None:
    """CPUs that this process may use at a time, the least of all levels, such as 0.5; None without a limit.

    `root` is where the file system begins: another one for tests.
    """
    found = []
    for folder in _folders("cpu", root):
        quota, period = _numbers(folder / "cpu.max", 2) or (
            *(_numbers(folder / "cpu.cfs_quota_us", 1) or (math.inf,)),
            *(_numbers(folder / "cpu.cfs_period_us", 1) or (100_000.0,)),
        )
        if 0 < quota < math.inf and period > 0:
            found.append(quota / period)
    return min(found, default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes of memory that this process may use, the least of all levels; None without a limit."""
    found = []
    for folder in _folders("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            for limit in _numbers(folder / name, 1) or ():
                if 0 < limit < _UNLIMITED:
                    found.append(int(limit))
    return min(found, default=None)


def _folders(controller: str, root: Path) -> Iterator[Path]:
    """The groups of this process that a controller may limit it by: its own, and those above it that are seen."""
    try:
        groups = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
        mounts = list(_mounts(root))
    except OSError:
        return
    for line in groups:
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for mount in mounts:
            if (controller in mount.controllers and controller in names.split(",")) or not (mount.controllers or names):
                yield from _upwards(mount, path)


def _upwards(mount: _Mount, path: str) -> Iterator[Path]:
    group, seen = PurePosixPath(path), PurePosixPath(mount.part)
    # A container may be told its path on the host, of which it sees the last part as a whole, or nothing.
    below = group.relative_to(seen) if group.is_relative_to(seen) else PurePosixPath(path.lstrip("/"))
    folder = mount.point / below
    if ".." in below.parts or not folder.is_dir():
        folder = mount.point
    while True:
        yield folder
        if folder == mount.point:
            return
        folder = folder.parent


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in (root / "proc/self/mountinfo").read_text(errors="replace").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or len(kind) < 2 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        controllers = frozenset(kind[2].split(",")) if kind[0] == "cgroup" and len(kind) > 2 else frozenset()
        yield _Mount(fields[3], root / fields[4].lstrip("/"), controllers)


def _numbers(file: Path, count: int) -> tuple[float, ...] | None:
    """The first numbers of a file, `max` being infinite; None where it has none."""
    try:
        words = file.read_text().split()[:count]
        numbers = tuple(math.inf if word == "max" else float(word) for word in words)
    except (OSError, ValueError):
        return None
    return numbers if len(numbers) == count else None
