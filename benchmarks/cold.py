"""Programs from their start to their end: the C example, and `gpcnn-sample` in a folder without an engine."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.native_report import Cold
from gpcnn_deploy.errors import GpcnnError
from gpcnn_runtime.engines.native.library import LIBRARY
from gpcnn_runtime.zoo.catalogue import resolve_engine

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parent / "runtime" / "native"
C_EXAMPLE = "C example"
SAMPLE = "gpcnn-sample --label 3"


def cold_starts(folder: Path, runs: int) -> tuple[tuple[Cold, ...], tuple[str, ...]]:
    """Both programs with the zoo's default model, and why one could not be measured.

    Args:
        folder: for programs and pictures.
        runs: starts of each program, after one that reads the files for the first time.

    Raises:
        GpcnnError: a program fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform == "win32":
        return (), ("starts of programs, which needs a C compiler (cc, gcc or clang) and fork()",)
    cold, draw = folder / "cold", folder / "draw"
    _run([compiler, "-O2", str(HERE / "cold.c"), "-o", str(cold)])
    link = [f"-L{LIBRARY.parent}", "-lgpcnn", f"-Wl,-rpath,{LIBRARY.parent}"]
    example = str(NATIVE / "examples" / "draw.c")
    _run([compiler, "-O2", "-I", str(NATIVE / "include"), example, *link, "-o", str(draw)])
    model = str(resolve_engine("zoo:mnist-conditional"))
    command = shutil.which("gpcnn-sample", path=str(Path(sys.executable).parent))
    python = [command] if command else [sys.executable, "-m", "gpcnn_runtime.commands.sample.cli"]
    programs = {
        C_EXAMPLE: [str(draw), model, str(folder / "digit.pgm"), "0", "3"],
        SAMPLE: [*python, "--label", "3", "-o", str(folder / "digit.png")],
    }
    found = []
    for name, arguments in programs.items():
        told = _run([str(cold), str(runs + 1), *arguments], folder)
        lines = [line.split() for line in told.splitlines()[1:]]
        ms, kilobytes = [float(line[0]) for line in lines], [int(line[1]) for line in lines]
        found.append(Cold(program=name, ms=statistics.median(ms), rss_mb=max(kilobytes) * 1024 / 1e6, runs=len(lines)))
    return tuple(found), ()


def _run(command: list[str], folder: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise GpcnnError(f"{Path(command[0]).name} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
