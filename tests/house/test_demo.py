"""`make demo` installs what the README's commands need: TensorRT-RTX where it works, and elsewhere a reason why not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINUX, MAC = "SYSTEM=Linux-x86_64", "SYSTEM=Darwin-arm64"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that looks like a clone whose environment stands, but for TensorRT."""
    for name in ("pyproject.toml", "constraints.txt", "Makefile"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for stamp in (".export", ".native"):
        (tmp_path / ".venv" / stamp).touch()
    return tmp_path


def make(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(folder: Path, exit_code: int) -> None:
    """What stands for the environment's Python: it notes what it was asked, and succeeds or fails."""
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/asked"\nexit {exit_code}\n')
    python.chmod(0o755)


def test_it_installs_tensorrt_rtx_once_and_builds_a_plan(clone: Path) -> None:
    pip(clone, exit_code=0)
    assert "No TensorRT" not in make(clone, "rtx", LINUX)
    assert (clone / "asked").read_text().count("[tensorrt-rtx]") == 1
    make(clone, "rtx", LINUX)
    assert (clone / "asked").read_text().count("[tensorrt-rtx]") == 1
    told = make(clone, "--dry-run", "demo", LINUX)
    assert "gpcnn-export --format trt" in told
    assert "--engine model.plan" in told


def test_elsewhere_it_says_why_not_and_goes_on(clone: Path) -> None:
    pip(clone, exit_code=0)
    assert "this machine is Darwin-arm64" in make(clone, "rtx", MAC)
    assert not (clone / "asked").exists()
    told = make(clone, "--dry-run", "demo", MAC)
    assert "gpcnn-export --format native" in told
    assert "--engine model.gpcnn" in told


def test_where_pip_fails_it_says_so_and_tries_again_next_time(clone: Path) -> None:
    pip(clone, exit_code=1)
    assert "pip could not install tensorrt-rtx" in make(clone, "rtx", LINUX)
    assert "gpcnn-export --format native" in make(clone, "--dry-run", "demo", LINUX)
    pip(clone, exit_code=0)
    make(clone, "rtx", LINUX)
    assert "gpcnn-export --format trt" in make(clone, "--dry-run", "demo", LINUX)


def test_this_machine_is_named_as_the_makefile_expects(clone: Path) -> None:
    """`SYSTEM` comes from Python, in the words of `PLAN_SYSTEMS`."""
    import platform

    pip(clone, exit_code=0)
    system = f"{platform.system()}-{platform.machine()}"
    expected = "" if system in ("Linux-x86_64", "Windows-AMD64") else f"this machine is {system}"
    assert expected in make(clone, "rtx")
    assert (clone / "asked").exists() == (not expected)
