"""The native engine's sources as one C file: every `#include "…"` is replaced by the file that it names, once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_HERE = Path(__file__).parent
FOLDERS: Final = (_HERE / "native", _HERE.parents[2] / "runtime" / "native")  # in an installed package; in a clone

MARK: Final = "/* gpcnn.c: the native engine of gpcnn-deploy in one file."
"""What every `gpcnn.c` begins with: by it a folder is known as ours."""

TILES: Final = {"14x2": 64, "6x2": 32, "6x4": 16, "4x2": 16}
"""Register tiles, and the bytes of the vectors that they are chosen for."""
SMALLEST: Final = ("4x2",)
"""Tiles of a program whose weights are packed beforehand: the one width of blocks that they are packed in."""

_INCLUDE = re.compile(r'^#include "([\w.]+)"\n', re.MULTILINE)
_TILES = re.compile(r"^#include GPCNN_TILES\n", re.MULTILINE)
_DECODER = re.compile(r"^#include GPCNN_DECODER\n", re.MULTILINE)
_FILE_READERS = ("json.c", "model_file.c")


def native_folder() -> Path:
    """Where the kernel's sources are."""
    return next((folder for folder in FOLDERS if (folder / "src").is_dir()), FOLDERS[0])


def header() -> str:
    """`gpcnn.h`."""
    return (native_folder() / "include" / "gpcnn.h").read_text()


def pictures_header() -> str:
    """`gpcnn_pictures.h`."""
    return (native_folder() / "include" / "gpcnn_pictures.h").read_text()


def amalgamation(packed: bool = False, decoder: bool = False) -> str:
    """`gpcnn.c`: the whole kernel, for one instruction set, which the compiler's flags decide.

    Args:
        packed: for weights that are packed beforehand: the smallest kernel, and no reader of model files.
        decoder: with the decoder of a VQ-VAE.
    """
    source = native_folder() / "src"
    seen: set[str] = set()
    tiles = SMALLEST if packed else tuple(TILES)

    def inline(name: str) -> str:
        if name in ("gpcnn.h", "gpcnn_pictures.h"):
            return f'#include "{name}"\n' if name not in seen and not seen.add(name) else ""  # type: ignore[func-returns-value]
        if name in seen:
            return ""
        seen.add(name)
        text = (source / name).read_text()
        text = _TILES.sub(lambda found: _choice_of_tiles(source, tiles), text)
        if decoder:
            text = _DECODER.sub('#include "decoder.h"\n', text)
        return f"\n/* ---- {name} ---- */\n\n" + _INCLUDE.sub(lambda found: inline(found[1]), text)

    parts = [_opening(packed, tiles) + ("#define GPCNN_DECODER\n" if decoder else "")]
    parts += [inline(name) for name in ("variant.c", "noise.c", "library.c", *(() if packed else _FILE_READERS))]
    parts += [inline("pictures.c")] if decoder else []
    parts.append(f"\n#ifdef GPCNN_NO_LIBC\n{inline('memory.c')}#endif\n")
    return "".join(parts)


def _choice_of_tiles(source: Path, tiles: tuple[str, ...]) -> str:
    if len(tiles) == 1:
        return (source / f"tiles_{tiles[0]}.h").read_text()
    lines = []
    for word, name in zip(["if", *["elif"] * (len(tiles) - 1)], tiles, strict=True):
        lines.append(f"#{word} GPCNN_TILE_SHAPE == {_shape(name)}\n" + (source / f"tiles_{name}.h").read_text())
    return "".join(lines) + "#endif\n"


def _shape(name: str) -> int:
    rows, vectors = name.split("x")
    return 100 * int(rows) + int(vectors)


def _opening(packed: bool, tiles: tuple[str, ...]) -> str:
    choice = _SMALLEST_VECTORS if packed else _CHOSEN_VECTORS
    return f"{MARK} Written by gpcnn-export; do not edit.\n" + _COMMENT + choice + _COMMON + f"{int(packed)}\n"


_COMMENT = """ *
 * It computes with the widest vectors that the compiler may use: -march=native is worth it. Without optimization it is
 * many times slower. GCC fuses a multiply with the addition behind it in -std=gnu11 and newer, and not in -std=c11;
 * -ffp-contract=off -DGPCNN_FUSED=0 gives log-probabilities that have the same bits on every machine.
 * -DGPCNN_NO_LIBC brings memcpy and memset along, for a program that has no C library. */
#if defined __BYTE_ORDER__ && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "this machine is big-endian, which the kernel does not know"
#endif
#if defined __GNUC__ && !defined __clang__ && !defined __OPTIMIZE__
#pragma GCC optimize("O3")
#endif
"""

_CHOSEN_VECTORS = """#if defined __AVX512F__ && defined __AVX512VL__ && defined __AVX512DQ__ && defined __AVX512BW__
#define GPCNN_VECTOR_BYTES 64
#define GPCNN_TILE_SHAPE 1402
#define GPCNN_NAME "x86-64-v4"
#elif defined __AVX2__ && defined __FMA__
#define GPCNN_VECTOR_BYTES 32
#define GPCNN_TILE_SHAPE 602
#define GPCNN_NAME "x86-64-v3"
#else
#define GPCNN_VECTOR_BYTES 16
#if defined __aarch64__ || defined __powerpc64__
#define GPCNN_TILE_SHAPE 604
#elif defined __SSE2__ || defined __ARM_NEON
#define GPCNN_TILE_SHAPE 602
#else
#define GPCNN_TILE_SHAPE 402
#endif
#endif
"""

_SMALLEST_VECTORS = """#define GPCNN_VECTOR_BYTES 16
"""

_COMMON = """#ifndef GPCNN_NAME
#if defined __x86_64__
#define GPCNN_NAME "x86-64"
#elif defined __i386__
#define GPCNN_NAME "i386"
#elif defined __aarch64__
#define GPCNN_NAME "arm64"
#elif defined __arm__
#define GPCNN_NAME "arm"
#elif defined __riscv
#define GPCNN_NAME "riscv"
#elif defined __powerpc64__
#define GPCNN_NAME "ppc64le"
#elif defined __wasm__
#define GPCNN_NAME "wasm32"
#else
#define GPCNN_NAME "generic"
#endif
#endif
#ifndef GPCNN_FUSED
#if defined __GNUC__ && !defined __clang__ && defined __STRICT_ANSI__
#define GPCNN_FUSED 0
#elif defined __FMA__ || defined __aarch64__ || defined __ARM_FEATURE_FMA || defined __riscv_fdiv || \\
    defined __powerpc64__ || defined __wasm_relaxed_simd__
#define GPCNN_FUSED 1
#else
#define GPCNN_FUSED 0
#endif
#endif
#define GPCNN_VARIANT gpcnn_kernel_base
#define GPCNN_ONE_KERNEL 1
#define GPCNN_BASE_FUSES 0
#define GPCNN_PACKED_ONLY """
