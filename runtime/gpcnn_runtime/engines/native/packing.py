"""Weights packed beforehand, for a program that keeps them in read-only memory: by the library, for any machine."""

from __future__ import annotations

import ctypes
from ctypes import byref
from dataclasses import dataclass
from typing import Any

from gpcnn_deploy.errors import EngineError
from gpcnn_runtime.engines.native.library import Info, PackedNeeds, aligned, load_library


@dataclass(frozen=True)
class PackedWeights:
    """What `gpcnn_attach` takes, and the memory that a program needs with it.

    Attributes:
        content: float32, little-endian, in the blocks of the smallest kernel.
        memory: bytes of `gpcnn_attach`, at most.
        workspace: bytes of `gpcnn_draw` with one image, at most.
    """

    content: bytes
    memory: int
    workspace: int


def pack_weights(content: bytes, source: str) -> PackedWeights:
    """Pack the weights of a model file.

    Args:
        content: the bytes of the file.
        source: where they are from, for messages.

    Raises:
        EngineError: the file is damaged or newer than the library, or too large for this machine.
    """
    library: Any = load_library()
    info, needs = Info(), PackedNeeds()

    def check(status: int) -> None:
        if status:
            text = library.gpcnn_status_text(status).decode()
            raise EngineError(f"{source}: its weights cannot be packed ({text}): export it anew")

    check(library.gpcnn_inspect(content, len(content), byref(info)))
    check(library.gpcnn_packed_size(byref(info.spec), 1, byref(needs)))
    try:
        memory, weights = aligned(needs.memory), aligned(needs.weights)
    except MemoryError as error:
        raise EngineError(f"{source}: no memory to pack the weights ({needs.weights} bytes)") from error
    address = ctypes.c_void_p(weights.ctypes.data)
    check(library.gpcnn_pack(content, len(content), memory.ctypes.data, memory.nbytes, address, weights.nbytes))
    return PackedWeights(weights.tobytes(), needs.memory, needs.workspace)
