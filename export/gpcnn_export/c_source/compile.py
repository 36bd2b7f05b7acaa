"""Compiles a folder of C source for any machine, with the C compiler that the package ziglang brings."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from gpcnn_deploy.errors import GpcnnError, UsageError
from gpcnn_deploy.system.files import atomic_path

Kind = Literal["program", "library"]
EXAMPLES = "aarch64-linux-musl, x86_64-windows-gnu, thumb-freestanding-eabihf"

CORTEX_M = "cortex_m4+vfp4d16sp"
"""zig's name of a Cortex-M4 with its floating-point unit."""


class CompileError(GpcnnError):
    """C source that a compiler does not take; a fault of ours, or of a machine that it was not written for."""


def check_target(target: str, kind: Kind, static: bool) -> None:
    """Refuse, before the work, what cannot be compiled.

    Raises:
        UsageError: zig is missing or does not know the target, or the target has no programs or libraries of this kind.
    """
    bare = "freestanding" in target
    if bare and kind == "library":
        raise UsageError(
            f"{target} has no shared libraries: leave --library out, or compile the folder into your program"
        )
    if bare and not is_cortex_m(target):
        raise UsageError(
            f"there is no start-up code for {target}, only for Cortex-M: leave --target out and compile the folder "
            "together with your own main"
        )
    if bare and not static:
        raise UsageError(f"{target} has no C library: add --static")
    with tempfile.TemporaryDirectory(prefix="gpcnn-target-") as name:
        probe = Path(name, "probe.c")
        probe.write_text("int probe;\n")
        done = _zig([*_machine(target, None), "-c", str(probe), "-o", str(Path(name, "probe.o"))], Path(name))
    if done.returncode != 0:
        raise UsageError(f"zig does not know the target {target}: expected one such as {EXAMPLES}")


def is_cortex_m(target: str) -> bool:
    """Whether a program for it starts on the bare processor, with the start-up code in `cortex-m/`."""
    return target.startswith("thumb-freestanding")


def compile_folder(folder: Path, target: str, cpu: str | None, kind: Kind) -> Path:
    """Compile the folder's source; the program or library is put into it.

    Args:
        folder: as `write_folder` leaves it.
        target: zig's name of a machine, such as `aarch64-linux-musl`.
        cpu: zig's name of a CPU; None takes the least that the target allows, and for Cortex-M `CORTEX_M`.
        kind: a program that draws, or a shared library of `gpcnn.h` and `model.h`.

    Raises:
        CompileError: the compiler refuses it.
        OutputError: it cannot be written.
    """
    bare = is_cortex_m(target)
    flags = [*_machine(target, cpu or (CORTEX_M if bare else None)), "-std=gnu11", "-O3"]
    sources = ["gpcnn.c", "model.c"]
    if bare:
        sources.append("cortex-m/main.c")
        flags += ["-ffreestanding", "-DGPCNN_NO_LIBC", "-ffunction-sections", "-nostartfiles", "-Wl,--gc-sections"]
        flags += ["-fno-unwind-tables", "-fno-asynchronous-unwind-tables"]
        flags += ["-I", str(folder), "-T", str(folder / "cortex-m" / "mps2.ld")]
    elif kind == "program":
        sources.append("main.c")
    else:
        flags += ["-shared", *([] if "windows" in target else ["-fPIC"])]
    made = folder / _name(target, kind, bare)
    with tempfile.TemporaryDirectory(prefix="gpcnn-compile-") as cache, atomic_path(made) as path:
        out = Path(cache, made.name)
        command = [*flags, *(str(folder / source) for source in sources), "-s", "-o", str(out)]
        done = _zig(command, Path(cache))
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "error" in line]
            raise CompileError(
                f"zig cannot compile {folder} for {target}: {lines[0] if lines else done.stderr.strip()}"
            )
        path.write_bytes(out.read_bytes())
    if kind == "program" and not bare:
        made.chmod(0o755)
    return made


def _machine(target: str, cpu: str | None) -> list[str]:
    return ["-target", target, *([] if cpu is None else [f"-mcpu={cpu}"]), "-fno-sanitize=undefined"]


def _name(target: str, kind: Kind, bare: bool) -> str:
    if bare:
        return "cortex-m/draw.elf"
    windows, macos = "windows" in target, "macos" in target
    if kind == "library":
        return "model.dll" if windows else "libmodel.dylib" if macos else "libmodel.so"
    return "draw.exe" if windows else "draw.wasm" if target.startswith("wasm") else "draw"


def _zig(arguments: list[str], cache: Path) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("ziglang") is not None:
        command = [sys.executable, "-m", "ziglang", "cc"]
    elif found := shutil.which("zig"):
        command = [found, "cc"]
    else:
        raise UsageError("--target needs zig, which is not installed: pip install 'gpcnn-deploy[cross]'")
    keep = os.environ.get("ZIG_GLOBAL_CACHE_DIR", str(cache / "cache"))
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": keep, "ZIG_LOCAL_CACHE_DIR": str(cache / "local")}
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL
    )
