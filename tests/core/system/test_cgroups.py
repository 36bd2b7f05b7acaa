"""Limits of containers, of both versions of control groups, as the kernel writes them under a root of our own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpcnn_deploy.system import cgroups, machine
from gpcnn_deploy.system.cgroups import cpu_limit, memory_limit

V2 = "26 19 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {part} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 {part} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def make(root: Path, mounts: str, groups: str, files: dict[str, str]) -> Path:
    for name, content in {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_version_2_the_least_of_all_levels(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        "sys/fs/cgroup/a/b/memory.max": "900000000\n",
        "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
        "sys/fs/cgroup/a/memory.max": "536870912\n",
        "sys/fs/cgroup/other/cpu.max": "1000 100000\n",
    }
    root = make(tmp_path, V2, "0::/a/b\n", files)
    assert (cpu_limit(root), memory_limit(root)) == (0.5, 536870912)


def test_version_2_in_a_container_with_a_view_of_its_own(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": "150000 100000\n", "sys/fs/cgroup/memory.max": "max\n"}
    root = make(tmp_path, V2, "0::/\n", files)
    assert (cpu_limit(root), memory_limit(root)) == (1.5, None)


@pytest.mark.parametrize(
    ("part", "path", "folder"),
    [("/", "/docker/a", "/docker/a"), ("/docker/a", "/docker/a", ""), ("/", "/x", "")],
)
def test_version_1_whatever_part_of_the_tree_is_seen(tmp_path: Path, part: str, path: str, folder: str) -> None:
    files = {
        f"sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs_quota_us": "25000\n",
        f"sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs_period_us": "50000\n",
        f"sys/fs/cgroup/memory{folder}/memory.limit_in_bytes": "268435456\n",
    }
    root = make(tmp_path, V1.format(part=part), f"4:memory:{path}\n3:cpu,cpuacct:{path}\n1:name=systemd:/z\n", files)
    assert (cpu_limit(root), memory_limit(root)) == (0.5, 268435456)


def test_version_1_without_limits(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    root = make(tmp_path, V1.format(part="/"), "4:memory:/\n3:cpu,cpuacct:/\n", files)
    assert (cpu_limit(root), memory_limit(root)) == (None, None)


@pytest.mark.parametrize("text", ["", "nonsense", "1", "0 0", "\udcff"])
def test_files_that_make_no_sense_limit_nothing(tmp_path: Path, text: str) -> None:
    root = make(tmp_path, V2, "0::/../..\nnonsense\n", {})
    (root / "sys/fs/cgroup").mkdir(parents=True)
    for name in ("cpu.max", "memory.max"):
        (root / "sys/fs/cgroup" / name).write_bytes(os.fsencode(text))
    limits = (cpu_limit(root), memory_limit(root))
    assert limits in ((None, None), (None, 1))
    assert cpu_limit(tmp_path / "nowhere") is None


@pytest.mark.parametrize(("quota", "cores"), [(0.5, 1), (1.0, 1), (1.5, 2), (64.0, 8), (None, 8)])
def test_threads_follow_the_quota(quota: float | None, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cgroups, "cpu_limit", lambda: quota)
    assert machine.available_cores() == cores


@pytest.mark.parametrize(("limit", "threads"), [(100_000_000, 1), (512_000_000, 4), (1 << 40, 16), (None, 16)])
def test_threads_follow_the_memory(limit: int | None, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.setattr(machine, "_memory_mb", lambda: 64_000)
    monkeypatch.setattr(cgroups, "cpu_limit", lambda: None)
    monkeypatch.setattr(cgroups, "memory_limit", lambda: limit)
    assert machine.default_threads() == threads
    facts = machine.machine_facts()
    assert facts["memory_mb"] == (64_000 if threads == 16 else (limit or 0) // 1_000_000)
    assert ("memory_limit_mb" in facts) == (threads < 16)
    assert (str((limit or 0) // 1_000_000) in machine.of_memory()) == (threads < 16)
