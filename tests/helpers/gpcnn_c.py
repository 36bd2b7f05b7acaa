"""gpcnn.h through ctypes, every field of it: what the tests of the kernel call."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64
OnRow = ctypes.CFUNCTYPE(None, c_void_p, c_uint32)


DIMENSIONS = (
    *("height", "width", "channels", "levels", "features", "layers", "first_kernel_size", "kernel_size"),
    *("head_features", "conditioning", "conditioning_size", "input_size", "head", "mixtures"),
    *("map_height", "map_width", "map_features", "map_categories"),
)


class Spec(ctypes.Structure):
    _fields_ = [(name, c_uint32) for name in DIMENSIONS]


class Info(ctypes.Structure):
    _fields_ = [("spec", Spec), ("model_bytes", c_uint64), ("metadata_offset", c_uint64), ("metadata_bytes", c_uint64)]


class Options(ctypes.Structure):
    _fields_ = [("reproducible", c_uint32), ("instructions", c_char_p)]


class Request(ctypes.Structure):
    _fields_ = [
        ("images", c_uint32),
        ("window", c_uint32),
        ("temperature", c_float),
        ("noise", POINTER(c_float)),
        ("known", POINTER(c_int32)),
        ("mask", POINTER(c_uint8)),
        ("label", POINTER(c_int32)),
        ("embedding", POINTER(c_float)),
        ("cancel", POINTER(c_int32)),
        ("on_row", OnRow),
        ("user", c_void_p),
        ("image", POINTER(c_int32)),
        ("log_prob", POINTER(c_float)),
        ("evaluations", POINTER(c_uint64)),
        ("map", POINTER(c_float)),
    ]


class Refused(Exception):
    """A status that is not GPCNN_OK."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Library:
    """One shared library."""

    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        self.c.gpcnn_status_text.restype = c_char_p
        self.c.gpcnn_instruction_set.restype = c_char_p
        self.c.gpcnn_model_instructions.restype = c_char_p
        self.c.gpcnn_model_instructions.argtypes = [c_void_p]
        self.c.gpcnn_workspace_bytes.restype = c_size_t
        self.c.gpcnn_workspace_bytes.argtypes = [c_void_p, c_uint32]
        self.c.gpcnn_inspect.argtypes = [c_char_p, c_size_t, POINTER(Info)]
        self.c.gpcnn_load_with.argtypes = [
            POINTER(Options),
            c_char_p,
            c_size_t,
            c_void_p,
            c_size_t,
            POINTER(c_void_p),
        ]
        self.c.gpcnn_draw.argtypes = [c_void_p, POINTER(Request), c_void_p, c_size_t]
        self.c.gpcnn_noise.argtypes = [POINTER(Spec), c_uint64, c_uint64, c_uint32, c_void_p]

    def check(self, status: int) -> None:
        if status:
            raise Refused(status, self.c.gpcnn_status_text(status).decode())

    def instruction_sets(self) -> list[str]:
        names: list[str] = []
        while (name := self.c.gpcnn_instruction_set(len(names))) is not None:
            names.append(name.decode())
        return names

    def inspect(self, file: bytes) -> Info:
        info = Info()
        self.check(self.c.gpcnn_inspect(file, len(file), byref(info)))
        return info

    def noise(self, spec: Spec, seed: int, count: int, first: int = 0) -> npt.NDArray[np.float32]:
        out = np.full((count, spec.channels, spec.height, spec.width), np.nan, np.float32)
        self.check(self.c.gpcnn_noise(byref(spec), seed, first, count, out.ctypes.data))
        return out


def aligned(size: int) -> npt.NDArray[np.uint8]:
    """Bytes that are NaN as floats, aligned as the library asks, with a guard behind them."""
    raw = np.full(size + 2 * ALIGNMENT, 0xFF, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size + ALIGNMENT]


class Model:
    """A loaded model."""

    def __init__(
        self, library: Library, file: bytes, instructions: str | None = None, reproducible: bool = False
    ) -> None:
        self.library = library
        self.info = library.inspect(file)
        self.memory = aligned(self.info.model_bytes)
        self.pointer = c_void_p()
        options = Options(reproducible, None if instructions is None else instructions.encode())
        library.check(
            library.c.gpcnn_load_with(
                byref(options), file, len(file), self.memory.ctypes.data, self.info.model_bytes, byref(self.pointer)
            )
        )
        assert (self.memory[self.info.model_bytes :] == 0xFF).all()
        self.text = library.c.gpcnn_model_instructions(self.pointer).decode()
        self.spaces: dict[int, tuple[int, npt.NDArray[np.uint8]]] = {}

    def draw(
        self,
        noise: Any,
        label: Any = None,
        embedding: Any = None,
        known: Any = None,
        mask: Any = None,
        temperature: float = 0,
        window: int = 0,
        cancel: Any = None,
        on_row: Any = None,
        images: int | None = None,
        want_log_prob: bool = True,
        map: Any = None,
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], int]:
        """(levels, log_prob, evaluations); writes past the workspace's end are found."""
        spec = self.info.spec
        n = len(noise) if images is None else images
        shape = (n, spec.channels, spec.height, spec.width)
        image, log_prob = np.full(shape, -1, np.int32), np.full(shape, np.nan, np.float32)
        evaluations = c_uint64()
        if n not in self.spaces:
            size = self.library.c.gpcnn_workspace_bytes(self.pointer, n)
            self.spaces[n] = size, aligned(size)
        size, space = self.spaces[n]
        kept = []

        def at(array: Any, dtype: Any, ctype: Any) -> Any:
            if array is None:
                return None
            kept.append(np.ascontiguousarray(array, dtype))
            return kept[-1].ctypes.data_as(POINTER(ctype))

        request = Request(
            n,
            window,
            temperature,
            at(noise, np.float32, c_float),
            at(known, np.int32, c_int32),
            at(mask, np.uint8, c_uint8),
            at(label, np.int32, c_int32),
            at(embedding, np.float32, c_float),
            None if cancel is None else cancel.ctypes.data_as(POINTER(c_int32)),
            OnRow(0) if on_row is None else OnRow(on_row),
            None,
            image.ctypes.data_as(POINTER(c_int32)),
            log_prob.ctypes.data_as(POINTER(c_float)) if want_log_prob else None,
            ctypes.pointer(evaluations),
            at(map, np.float32, c_float),
        )
        self.library.check(self.library.c.gpcnn_draw(self.pointer, byref(request), space.ctypes.data, size))
        assert (space[size:] == 0xFF).all(), "the workspace was overrun"
        return image, log_prob, evaluations.value
