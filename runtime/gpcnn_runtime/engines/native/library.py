"""The native engine's library, called through ctypes, which lets other threads run meanwhile.

Shape legend: N images, C channels, H rows, W columns, E length of an embedding. What is called here: `gpcnn.h`.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections.abc import Callable
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.text import counted
from gpcnn_runtime.engines.base import OutOfMemoryError

ABI: Final = 4
ALIGNMENT: Final = 64
_NAMES = {"win32": "gpcnn.dll", "darwin": "libgpcnn.dylib"}
LIBRARY: Final = Path(__file__).parent / "lib" / _NAMES.get(sys.platform, "libgpcnn.so")

_OK, _BAD_FILE, _BAD_SPEC, _BAD_ARGUMENT, _OUT_OF_MEMORY, _CANCELLED, _NEWER_FILE = range(7)


class CancelledError(Exception):
    """The flag `cancel` of a call was set; what the call was to write is not complete."""


class _Spec(Structure):
    _fields_ = [
        ("height", c_uint32),
        ("width", c_uint32),
        ("channels", c_uint32),
        ("levels", c_uint32),
        ("features", c_uint32),
        ("layers", c_uint32),
        ("first_kernel_size", c_uint32),
        ("kernel_size", c_uint32),
        ("head_features", c_uint32),
        ("conditioning", c_uint32),
        ("conditioning_size", c_uint32),
        ("input_size", c_uint32),
        ("head", c_uint32),
        ("mixtures", c_uint32),
        ("map_height", c_uint32),
        ("map_width", c_uint32),
        ("map_features", c_uint32),
        ("map_categories", c_uint32),
    ]


class Info(Structure):
    """`gpcnn_info`."""

    _fields_ = [
        ("spec", _Spec),
        ("model_bytes", c_uint64),
        ("metadata_offset", c_uint64),
        ("metadata_bytes", c_uint64),
    ]


class PackedNeeds(Structure):
    """`gpcnn_packed_needs`."""

    _fields_ = [("weights", c_uint64), ("memory", c_uint64), ("workspace", c_uint64)]


class _Request(Structure):
    _fields_ = [
        ("images", c_uint32),
        ("window", c_uint32),
        ("temperature", c_float),
        ("noise", c_void_p),
        ("known", c_void_p),
        ("mask", c_void_p),
        ("label", c_void_p),
        ("embedding", c_void_p),
        ("cancel", c_void_p),
        ("on_row", c_void_p),
        ("user", c_void_p),
        ("image", c_void_p),
        ("log_prob", c_void_p),
        ("evaluations", c_void_p),
        ("map", c_void_p),
    ]


class _Options(Structure):
    _fields_ = [("reproducible", c_uint32), ("instructions", c_char_p)]


class Pictures(Structure):
    """`gpcnn_pictures`."""

    _fields_ = [
        (name, c_uint32)
        for name in (
            "height",
            "width",
            "channels",
            "codes",
            "downsample",
            "code_size",
            "features",
            "blocks",
            "code_levels",
        )
    ]


_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "gpcnn_abi": (c_uint32, []),
    "gpcnn_status_text": (c_char_p, [c_int]),
    "gpcnn_inspect": (c_int, [c_char_p, c_size_t, POINTER(Info)]),
    "gpcnn_instruction_set": (c_char_p, [c_uint32]),
    "gpcnn_load_with": (c_int, [POINTER(_Options), c_char_p, c_size_t, c_void_p, c_size_t, POINTER(c_void_p)]),
    "gpcnn_model_instructions": (c_char_p, [c_void_p]),
    "gpcnn_packed_size": (c_int, [POINTER(_Spec), c_uint32, POINTER(PackedNeeds)]),
    "gpcnn_pack": (c_int, [c_char_p, c_size_t, c_void_p, c_size_t, c_void_p, c_size_t]),
    "gpcnn_workspace_bytes": (c_size_t, [c_void_p, c_uint32]),
    "gpcnn_draw": (c_int, [c_void_p, POINTER(_Request), c_void_p, c_size_t]),
    "gpcnn_decoder_bytes": (c_uint64, [c_void_p, POINTER(Pictures)]),
    "gpcnn_decoder_load": (
        c_int,
        [c_void_p, POINTER(Pictures), c_void_p, c_uint64, c_void_p, c_uint64, POINTER(c_void_p)],
    ),
    "gpcnn_decoder_packed_size": (c_int, [POINTER(Pictures), POINTER(PackedNeeds)]),
    "gpcnn_decoder_pack": (
        c_int,
        [POINTER(Pictures), c_void_p, c_uint64, c_void_p, c_size_t, c_void_p, c_size_t],
    ),
    "gpcnn_decoder_workspace_bytes": (c_size_t, [c_void_p]),
    "gpcnn_decode": (c_int, [c_void_p, c_uint32, c_void_p, c_void_p, c_void_p, c_size_t]),
}


@functools.cache
def load_library(path: Path = LIBRARY) -> Any:
    """The library, its functions declared.

    Raises:
        EngineError: it is missing, made for another machine, or of another version.
    """
    anew = "compile it with python runtime/native/build.py in the source tree, or install the package anew"
    if not path.is_file():
        raise EngineError(f"the native engine's library is missing ({path}): {anew}")
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise EngineError(f"the native engine's library cannot be loaded ({error}): {anew}") from error
    if (abi := library.gpcnn_abi()) != ABI:
        raise EngineError(f"the native engine's library has interface {abi}, expected {ABI}: {anew}")
    return library


def instruction_sets() -> list[str]:
    """Names of the instruction sets that the library knows and this CPU has, the best first.

    Raises:
        EngineError: as `load_library`.
    """
    library, names = load_library(), list[str]()
    while (name := library.gpcnn_instruction_set(len(names))) is not None:
        names.append(name.decode())
    return names


class NativeModel:
    """A model in the library's memory. Several threads may draw with it at once.

    Attributes:
        source: the file it came from, for messages.
        image_shape: (C, H, W).
        instructions: what it computes with, such as `x86-64-v3, fused multiply-add`.
    """

    def __init__(
        self,
        content: bytes,
        source: str,
        reproducible: bool = False,
        instructions: str | None = None,
        library: Any = None,
    ) -> None:
        """Check a model file and pack its weights; `content` is not needed afterwards.

        Args:
            content: the bytes of the file.
            source: where they are from, for messages.
            reproducible: compute without fused multiply-add: log-probabilities have the same bits on every machine.
            instructions: one of `instruction_sets()`; default: the best.
            library: default: the one that was installed.

        Raises:
            EngineError: the file is damaged or newer than the library, the library cannot be loaded, or this CPU has
                no such instructions.
            OutOfMemoryError: no memory for the weights.
        """
        self.source = source
        self._library = load_library() if library is None else library
        info = Info()
        self.check(self._library.gpcnn_inspect(content, len(content), byref(info)))
        spec = info.spec
        self.image_shape = (spec.channels, spec.height, spec.width)
        self._embedding_size = spec.conditioning_size
        self._map_shape = (spec.conditioning_size, spec.map_height, spec.map_width)
        try:
            self._memory: npt.NDArray[np.uint8] | None = aligned(info.model_bytes)
        except MemoryError as error:
            raise OutOfMemoryError(f"{source}: no memory for the weights ({info.model_bytes} bytes)") from error
        model, address, size = c_void_p(), self._memory.ctypes.data, self._memory.nbytes
        options = _Options(reproducible, None if instructions is None else instructions.encode())
        load = self._library.gpcnn_load_with
        status = load(byref(options), content, len(content), address, size, byref(model))
        if status == _BAD_ARGUMENT:
            raise EngineError(f"this CPU has no {instructions}: expected one of {', '.join(instruction_sets())}")
        self.check(status)
        self._model = model
        self.instructions: str = self._library.gpcnn_model_instructions(model).decode()
        self._lock = threading.Lock()
        self._idle: list[npt.NDArray[np.uint8]] = []

    def close(self) -> None:
        """Release the memory; a call that is running keeps it until it returns. A second call does nothing."""
        with self._lock:
            self._memory, self._idle = None, []

    def draw(
        self,
        noise: npt.NDArray[np.float32],
        known: npt.NDArray[np.int32] | None = None,
        mask: npt.NDArray[np.bool_] | None = None,
        label: npt.NDArray[np.int32] | None = None,
        embedding: npt.NDArray[np.float32] | None = None,
        temperature: float = 1.0,
        window: int = 0,
        cancel: c_int32 | None = None,
        map: npt.NDArray[np.float32] | None = None,
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], int]:
        """Draw one batch. Arrays are C-contiguous.

        Args:
            noise: float32 [N, C, H, W] in [0, 1).
            known: int32 [N, C, H, W]: levels to keep where `mask` is true.
            mask: bool [N, C, H, W].
            label: int32 [N], for a model conditioned on labels.
            embedding: float32 [N, E], for a model conditioned on embeddings.
            temperature: divides the logits before drawing, see docs/engines.md of mixtures; above 0.
            window: columns guessed at a time, 1 to W; 0 leaves the choice to the library. All draw the same images.
            cancel: looked at between pixels; another thread sets it to 1 to call the batch off.
            map: float32 [N, P, h, w], for a model conditioned on maps: values, or numbers of categories.

        Returns:
            (levels int32 [N, C, H, W], log_prob float32 [N, C, H, W] in nats at temperature 1, evaluations).

        Raises:
            EngineError: the model is closed, or the library refuses the request.
            OutOfMemoryError: no memory for this batch.
            CancelledError: `cancel` was set.
            ValueError: an array of another type or shape, or one that is not contiguous.
        """
        memory, shape = self._memory, (len(noise), *self.image_shape)
        if memory is None:
            raise EngineError(f"{self.source}: the engine is closed: load it again")
        count = shape[0]
        levels, log_prob = np.empty(shape, np.int32), np.empty(shape, np.float32)
        evaluations = c_uint64()
        request = _Request(
            images=count,
            window=window,
            temperature=temperature,
            noise=_address("noise", noise, np.float32, shape),
            known=_address("known", known, np.int32, shape),
            mask=_address("mask", mask, np.bool_, shape),
            label=_address("label", label, np.int32, (count,)),
            embedding=_address("embedding", embedding, np.float32, (count, self._embedding_size)),
            cancel=None if cancel is None else ctypes.addressof(cancel),
            image=levels.ctypes.data,
            log_prob=log_prob.ctypes.data,
            evaluations=ctypes.addressof(evaluations),
            map=_address("map", map, np.float32, (count, *self._map_shape)),
        )
        workspace = self._workspace(count)
        try:
            status = self._library.gpcnn_draw(self._model, byref(request), workspace.ctypes.data, workspace.nbytes)
        finally:
            with self._lock:
                if self._memory is not None:
                    self._idle.append(workspace)
        self.check(status, count)
        return levels, log_prob, int(evaluations.value)

    @property
    def library(self) -> Any:
        """The library that draws it."""
        return self._library

    @property
    def handle(self) -> c_void_p:
        """What the library knows it by."""
        return self._model

    def _workspace(self, count: int) -> npt.NDArray[np.uint8]:
        """Memory for a batch: one that no other thread uses, if it is large enough, else a new one in its place."""
        need = self._library.gpcnn_workspace_bytes(self._model, count)
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        if idle is not None and idle.nbytes >= need:
            return idle
        del idle
        try:
            if need == 0:
                raise MemoryError
            return aligned(need)
        except MemoryError as error:
            raise _out_of_memory(count) from error

    def check(self, status: int, count: int = 0) -> None:
        """Raise what a function of the library says.

        Raises:
            EngineError, OutOfMemoryError, CancelledError: as `draw`.
        """
        if status == _OK:
            return
        if status == _CANCELLED:
            raise CancelledError
        if status == _OUT_OF_MEMORY:
            raise _out_of_memory(count)
        text = self._library.gpcnn_status_text(status).decode()
        mend = {
            _BAD_FILE: "export it anew",
            _BAD_SPEC: "export it anew",
            _NEWER_FILE: "pip install --upgrade gpcnn-deploy",
            _BAD_ARGUMENT: "check labels, maps, known levels, noise and temperature",
        }.get(status, "this is a fault of the library")
        raise EngineError(f"{self.source}: the native engine refuses it ({text}): {mend}")


def cancel_flag() -> tuple[c_int32, Callable[[], None]]:
    """A flag for `NativeModel.draw`, and the function that sets it."""
    flag = c_int32(0)

    def stop() -> None:
        flag.value = 1

    return flag, stop


def _out_of_memory(count: int) -> OutOfMemoryError:
    return OutOfMemoryError(f"not enough memory for {counted(count, 'image')} at a time")


def aligned(size: int) -> npt.NDArray[np.uint8]:
    """uint8 [size], at an address that the library takes; not initialized."""
    block = np.empty(size + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + size]


def _address(name: str, array: npt.NDArray[Any] | None, dtype: Any, shape: tuple[int, ...]) -> int | None:
    """Where the library reads an array, once its type and shape are what it takes them for."""
    if array is None:
        return None
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(
            f"{name} is {array.dtype} {list(array.shape)}, expected contiguous {np.dtype(dtype)} {list(shape)}"
        )
    return array.ctypes.data
