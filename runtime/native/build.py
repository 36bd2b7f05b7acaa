"""Compiles the native engine's library, and programs against it, for this machine or, with ziglang, for another.

    python runtime/native/build.py                              the library for this machine, into the package
    python runtime/native/build.py --target arm64-linux -o out  for another one; needs `pip install ziglang`
    python runtime/native/build.py --list                       the targets
    python runtime/native/build.py --browser                    the page's two WebAssembly modules, into runtime/browser

The kernel is compiled once for each instruction set of the target and chosen when the library starts. The library needs
no libc: one file serves glibc and musl. This script needs no package, since it runs before any is installed.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

NATIVE = Path(__file__).parent
BROWSER = NATIVE.parent / "browser"
LIBRARY_FOLDER = NATIVE.parent / "gpcnn_runtime" / "engines" / "native" / "lib"
ZIG = "ziglang==0.17.1"
"""The C compiler that the build takes where the system has none, and for all other targets."""


class BuildError(Exception):
    """The library cannot be compiled here; the message is one line that says how to mend it."""


@dataclasses.dataclass(frozen=True)
class InstructionSet:
    """What the kernel is compiled for, and how.

    Attributes:
        key: what its table of functions is called after.
        name: for people.
        vector_bytes: 16, 32 or 64.
        tiles: rows × vectors of the register tiles, as `src/tiles.py` names them.
        fuses: it has fused multiply-add. Its kernel is compiled a second time without, for the same bits everywhere.
        flags: for GCC and Clang.
        cpu: zig's name of such a CPU.
    """

    key: str
    name: str
    vector_bytes: int = 16
    tiles: str = "4x2"
    fuses: bool = False
    flags: tuple[str, ...] = ()
    cpu: str = "baseline"


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of machine.

    Attributes:
        name: as `--target` takes it.
        triple: zig's name of it.
        wheel: platform tag of a wheel for it; "" where wheels do not go.
        library: file name of the library.
        sets: instruction sets that the library holds, the least first.
        qemu: program that runs its programs on another machine; "" without one.
    """

    name: str
    triple: str
    wheel: str
    library: str
    sets: tuple[InstructionSet, ...]
    qemu: str = ""


def _x86_64() -> tuple[InstructionSet, ...]:
    v2 = ("-msse3", "-mssse3", "-msse4.1", "-msse4.2", "-mpopcnt")
    v3 = (*v2, "-mavx", "-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mf16c", "-mlzcnt", "-mmovbe")
    v4 = (*v3, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512")
    return (
        InstructionSet("v2", "x86-64-v2", 16, "6x2", False, v2, "x86_64_v2"),
        InstructionSet("v3", "x86-64-v3", 32, "6x2", True, v3, "x86_64_v3"),
        InstructionSet("v4", "x86-64-v4", 64, "14x2", True, v4, "x86_64_v4"),
    )


_LINUX, _MACOS, _WINDOWS = "libgpcnn.so", "libgpcnn.dylib", "gpcnn.dll"
_WASM = "wasm32-freestanding"
_X86 = _x86_64()
_ARM64 = (InstructionSet("base", "arm64", 16, "6x4", True),)
_ARMV7 = (InstructionSet("base", "armv7", 16, "6x2", False, ("-mfpu=neon",), "baseline+neon"),)
_RISCV64 = (InstructionSet("base", "riscv64", 16, "4x2", True),)
_I386 = (InstructionSet("base", "i386", 16, "4x2", False, ("-msse2", "-mfpmath=sse"), "pentium4"),)
_PPC64LE = (InstructionSet("base", "ppc64le", 16, "6x4", True),)
_SIMD = (InstructionSet("base", "wasm32", 16, "4x2", False, (), "generic+simd128"),)
_RELAXED = (InstructionSet("base", "wasm32, relaxed", 16, "4x2", True, (), "generic+simd128+relaxed_simd"),)


def _linux(name: str, triple: str, machine: str, sets: tuple[InstructionSet, ...], qemu: str) -> Target:
    wheel = f"manylinux_2_17_{machine}.musllinux_1_1_{machine}"
    return Target(f"{name}-linux", triple, wheel, _LINUX, sets, f"qemu-{qemu}-static")


TARGETS = {
    target.name: target
    for target in (
        _linux("x86-64", "x86_64-linux-musl", "x86_64", _X86, "x86_64"),
        _linux("arm64", "aarch64-linux-musl", "aarch64", _ARM64, "aarch64"),
        _linux("armv7", "arm-linux-musleabihf", "armv7l", _ARMV7, "arm"),
        _linux("riscv64", "riscv64-linux-musl", "riscv64", _RISCV64, "riscv64"),
        _linux("i386", "x86-linux-musl", "i686", _I386, "i386"),
        _linux("ppc64le", "powerpc64le-linux-musl", "ppc64le", _PPC64LE, "ppc64le"),
        Target("x86-64-macos", "x86_64-macos.10.13", "macosx_10_13_x86_64", _MACOS, _X86),
        Target("arm64-macos", "aarch64-macos.11.0", "macosx_11_0_arm64", _MACOS, _ARM64),
        Target("x86-64-windows", "x86_64-windows-gnu", "win_amd64", _WINDOWS, _X86),
        Target("arm64-windows", "aarch64-windows-gnu", "win_arm64", _WINDOWS, _ARM64),
        Target("wasm32", _WASM, "", "gpcnn.wasm", _SIMD),
        Target("wasm32-relaxed", _WASM, "", "gpcnn-relaxed.wasm", _RELAXED),
    )
}

KERNEL = "variant.c"
"""Source that is compiled for each instruction set; all others are compiled once, for the least of them."""
NO_LIBC = ("memory.c", "windows.c")
"""Sources that stand for a C library."""


NO_WASM = ("pack.c",)
"""Sources that only programs call that export a model."""


@dataclasses.dataclass(frozen=True)
class Compiler:
    """A C compiler.

    Attributes:
        command: how it is called.
        kind: `gcc`, `clang` or `zig`.
    """

    command: tuple[str, ...]
    kind: str


def find_compiler() -> Compiler | None:
    """The compiler that $CC names, or the system's cc, gcc or clang, or ziglang; None if there is none.

    Raises:
        BuildError: $CC names none that runs.
    """
    if named := os.environ.get("CC"):
        command = tuple(shlex.split(named))
        kind = _kind(command)
        if kind is None:
            raise BuildError(f"CC={named} is no GCC, Clang or zig that runs: correct it, or unset CC")
        return Compiler(command, kind)
    for name in ("cc", "gcc", "clang"):
        if (path := shutil.which(name)) and (kind := _kind((path,))):
            return Compiler((path,), kind)
    return find_zig()


def find_zig() -> Compiler | None:
    """The compiler of the package ziglang, or the program `zig`; None if neither is installed."""
    if importlib.util.find_spec("ziglang") is not None:
        return Compiler((sys.executable, "-m", "ziglang", "cc"), "zig")
    path = shutil.which("zig")
    return Compiler((path, "cc"), "zig") if path else None


def _kind(command: tuple[str, ...]) -> str | None:
    try:
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    if said.returncode != 0:
        return None
    if "clang" in said.stdout:
        return "zig" if "zig" in Path(command[0]).name or "ziglang" in command else "clang"
    return "gcc" if "Free Software Foundation" in said.stdout else None


def host() -> Target:
    """The target that this interpreter runs on; one of no name where only the system's compiler knows it."""
    bits = 64 if sys.maxsize > 2**32 else 32
    machine, system = platform.machine().lower(), platform.system().lower().replace("darwin", "macos")
    wide = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "arm64", "arm64": "arm64"}
    narrow = {"x86_64": "i386", "i686": "i386", "i386": "i386", "x86": "i386", "aarch64": "armv7", "armv7l": "armv7"}
    narrow["armv8l"] = "armv7"
    name = (wide if bits == 64 else narrow).get(machine, machine)
    library = {"macos": _MACOS, "windows": _WINDOWS}.get(system, _LINUX)
    return TARGETS.get(f"{name}-{system}", Target("", "", "", library, (InstructionSet("base", machine),)))


def build_library(
    target: Target, folder: Path, compiler: Compiler | None = None, cache: Path | None = None, static: bool = False
) -> Path:
    """Compile the library for a target into a folder; an old one is replaced in one step.

    Args:
        target: one of `TARGETS`, or `host()`.
        folder: made if it is missing.
        compiler: default: one that this machine has for the target.
        cache: where zig keeps what it compiled for the next call; default: thrown away.
        static: make an archive, `libgpcnn.a`, for linking into a program that has a C library.

    Raises:
        BuildError: no compiler for the target, or one that fails.
    """
    compiler = compiler or _compiler_for(target)
    name = "libgpcnn.a" if static else target.library
    with _workplace(folder, cache) as (place, environment):
        objects = _compile(target, compiler, place, environment, hosted=static)
        made = place / name
        if static:
            _run([*_archiver(compiler), "rcs", str(made), *map(str, objects)], environment)
        else:
            _link(target, compiler, objects, made, environment)
        folder.mkdir(parents=True, exist_ok=True)
        made.replace(folder / name)
    return folder / name


def is_current(target: Target, folder: Path) -> bool:
    """True if the folder holds a library that is newer than everything it is compiled from."""
    library = folder / target.library
    sources = [Path(__file__), *(NATIVE / "src").iterdir(), *(NATIVE / "include").iterdir()]
    return library.is_file() and library.stat().st_mtime >= max(source.stat().st_mtime for source in sources)


def build_browser(folder: Path = BROWSER, cache: Path | None = None) -> list[Path]:
    """Compile the page's WebAssembly modules, with `wasm.json`, which says what they were compiled from.

    They are committed: they run on every machine, a few kilobytes large, and no installation should need zig.

    Raises:
        BuildError: as `build_library`.
    """
    made = [build_library(TARGETS[name], folder, cache=cache) for name in ("wasm32", "wasm32-relaxed")]
    record = {"compiler": ZIG, "sources": sources_digest()}
    (folder / "wasm.json").write_text(json.dumps(record, indent=1) + "\n")
    return made


def sources_digest() -> str:
    """SHA-256 over names and contents of all C sources."""
    digest = hashlib.sha256()
    for source in sorted([*(NATIVE / "src").glob("*.[ch]"), *(NATIVE / "include").glob("*.h")]):
        content = source.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{source.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def build_program(
    sources: Sequence[Path],
    program: Path,
    target: Target,
    compiler: Compiler | None = None,
    cache: Path | None = None,
    flags: Sequence[str] = (),
    libc: bool = True,
) -> Path:
    """Compile a C program together with the library's sources; for Linux by zig, it needs nothing else to run.

    Args:
        sources: C files; they find `gpcnn.h`.
        program: where it goes.
        target: one of `TARGETS`, or `host()`.
        compiler: default: one that this machine has for the target.
        cache: where zig keeps what it compiled for the next call; its C library takes it a minute.
        flags: for the compiler, for all sources and for linking, such as `-fsanitize=address`.
        libc: without one, the program brings its own `_start`.

    Raises:
        BuildError: no compiler for the target, or one that fails.
    """
    compiler = compiler or _compiler_for(target)
    with _workplace(program.parent, cache) as (place, environment):
        objects = _compile(target, compiler, place, environment, hosted=libc, more=flags)
        made = place / program.name
        command = [*_call(compiler, target, target.sets[0]), "-std=c11", "-O2", "-Wall", "-Wextra", *flags]
        command += ["-I", str(NATIVE / "include"), *map(str, sources), *map(str, objects), "-o", str(made)]
        if not any(flag.startswith("-fsanitize=") for flag in flags):
            command.append("-s")
        if libc:
            _run(command, environment)
        else:
            _link_alone([*command, "-ffreestanding", "-fno-stack-protector", "-static"], compiler, environment)
        made.replace(program)
    return program


def _compiler_for(target: Target) -> Compiler:
    ours = target == host()
    compiler = find_compiler() if ours else find_zig()
    if compiler is None:
        need = "a C compiler (GCC or Clang) or " if ours else ""
        raise BuildError(f"the native engine's library needs {need}zig to be compiled: pip install '{ZIG}'")
    return compiler


@contextmanager
def _workplace(folder: Path, cache: Path | None) -> Iterator[tuple[Path, dict[str, str]]]:
    """A temporary folder beside the result, and an environment in which zig writes nowhere else."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as name:
        place = Path(name).resolve()
        keep = str(cache.resolve() if cache else place / "cache")
        yield place, {**os.environ, "ZIG_GLOBAL_CACHE_DIR": keep, "ZIG_LOCAL_CACHE_DIR": keep}


def _call(compiler: Compiler, target: Target, instructions: InstructionSet) -> list[str]:
    """The compiler for a target and an instruction set."""
    if compiler.kind != "zig":
        return [*compiler.command, *instructions.flags]
    call = [*compiler.command, "-fno-sanitize=undefined"]
    if target.triple:
        call += ["-target", target.triple, f"-mcpu={instructions.cpu}"]
        call += [flag for flag in instructions.flags if flag.startswith("-mprefer")]
    return call


def _compile(
    target: Target, compiler: Compiler, place: Path, environment: dict[str, str], hosted: bool, more: Sequence[str] = ()
) -> list[Path]:
    """The library's objects; `hosted` ones find memcpy and memset in a C library."""
    flags = ["-std=c11", "-O3", "-ffreestanding", "-fvisibility=hidden", "-fno-stack-protector", "-fno-math-errno"]
    flags += ["-fno-trapping-math", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-Wall", "-Wextra"]
    flags += ["-mno-stack-arg-probe"] if target.library == _WINDOWS else ["-fPIC"]
    flags += ["-I", str(NATIVE / "include"), *more]
    least = target.sets[0]
    jobs: list[list[str]] = []
    objects: list[Path] = []

    def job(source: str, made: str, instructions: InstructionSet, fused: bool, *macros: str) -> None:
        contract = "-ffp-contract=" + ("off" if not fused else "fast" if compiler.kind == "gcc" else "on")
        objects.append(place / f"{made}.o")
        command = [*_call(compiler, target, instructions), *flags, contract, *macros]
        jobs.append([*command, "-c", str(NATIVE / "src" / source), "-o", str(objects[-1])])

    for instructions in target.sets:
        for fused in {False, instructions.fuses}:
            key = instructions.key if fused == instructions.fuses else f"{instructions.key}_unfused"
            macros = [f"-DGPCNN_VARIANT=gpcnn_kernel_{key}", f'-DGPCNN_NAME="{instructions.name}"']
            macros += [f"-DGPCNN_VECTOR_BYTES={instructions.vector_bytes}", f"-DGPCNN_FUSED={int(fused)}"]
            macros += [f'-DGPCNN_TILES="tiles_{instructions.tiles}.h"', '-DGPCNN_DECODER="decoder.h"']
            if fused != instructions.fuses:
                macros.append("-Os")  # of two classes, the one that is asked for seldom is kept small
            job(KERNEL, f"kernel_{key}", instructions, fused, *macros)
    for source in sorted((NATIVE / "src").glob("*.c")):
        left_out = (KERNEL, *(NO_LIBC if hosted else ()), *(NO_WASM if target.triple == _WASM else ()))
        if source.name not in left_out:
            job(source.name, source.stem, least, False, f"-DGPCNN_BASE_FUSES={int(least.fuses)}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda command: _run(command, environment), jobs))
    return objects


def _link(target: Target, compiler: Compiler, objects: list[Path], made: Path, environment: dict[str, str]) -> None:
    command = [*_call(compiler, target, target.sets[0]), *map(str, objects), "-o", str(made), "-s"]
    if target.library == _MACOS:  # every program there has the system's library
        _run([*command, "-shared", f"-Wl,-install_name,@rpath/{made.name}"], environment)
    elif target.triple == _WASM:
        # The stack below the data, so that it cannot run into it; the table takes functions for `on_row`.
        flags = ["--no-entry", "--export-dynamic", "--export=__heap_base", "--export-table", "--growable-table"]
        flags += ["-z,stack-size=65536"]
        _run([*command, "-nodefaultlibs", *(f"-Wl,{flag}" for flag in flags)], environment)
    elif target.library == _WINDOWS:
        _run([*command, "-shared", "-nostdlib"], environment)
    else:
        _link_alone([*command, "-shared", "-Wl,-z,defs", "-Wl,-z,noexecstack"], compiler, environment)


def _link_alone(command: list[str], compiler: Compiler, environment: dict[str, str]) -> None:
    """Link without any library but, where it must be, the compiler's own: 64-bit division on a 32-bit CPU, for one."""
    command = [*command, "-nostdlib", "-Wl,--gc-sections"]
    try:
        _run(command, environment)
    except BuildError:
        _run([*command, "-lcompiler_rt" if compiler.kind == "zig" else "-lgcc"], environment)


def _archiver(compiler: Compiler) -> list[str]:
    if compiler.kind == "zig":
        return [*compiler.command[:-1], "ar"]
    found = shutil.which("ar")
    if found is None:
        raise BuildError("a static library needs the program ar, which is missing: install binutils")
    return [found]


def _run(command: list[str], environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise BuildError(f"cannot run {command[0]}: {error.strerror or error}") from error
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line or "undefined" in line]
        reason = lines[0].strip() if lines else f"exit code {done.returncode}"
        raise BuildError(f"compiling the native engine failed: {shlex.join(command)}: {reason}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Compile the native engine's library.")
    parser.add_argument("--target", choices=list(TARGETS), metavar="TARGET", help="default: this machine; see --list")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default: into the package")
    parser.add_argument("--static", action="store_true", help="make libgpcnn.a, for linking into a program")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="where zig keeps what it compiled")
    parser.add_argument("--if-older", action="store_true", help="do nothing if the library is newer than its sources")
    parser.add_argument("--list", action="store_true", help="show the targets")
    parser.add_argument("--browser", action="store_true", help="compile the page's WebAssembly modules")
    given = parser.parse_args()
    if given.list:
        print("\n".join(f"{target.name:16} {target.triple}" for target in TARGETS.values()))
        return 0
    if given.browser and (given.target or given.static):
        parser.error("--browser has targets of its own: leave --target and --static out")
    target = TARGETS[given.target] if given.target else host()
    if not given.browser and given.output is None and (given.static or target != host()):
        parser.error("name a folder with -o: the package takes the shared library of this machine alone")
    folder = given.output or LIBRARY_FOLDER
    if given.if_older and not given.browser and not given.static and is_current(target, folder):
        return 0
    try:
        if given.browser:
            modules = build_browser(given.output or BROWSER, given.cache)
        else:
            modules = [build_library(target, folder, cache=given.cache, static=given.static)]
    except BuildError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    for made in modules:
        print(f"{made} ({made.stat().st_size} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
