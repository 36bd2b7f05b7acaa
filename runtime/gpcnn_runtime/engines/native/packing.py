"""Weights packed beforehand, for a program that keeps them in read-only memory: by the library, for any machine."""

from __future__ import annotations

import ctypes
from ctypes import byref
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.spec import VqvaeSpec
from gpcnn_runtime.engines.native.library import Info, PackedNeeds, Pictures, aligned, load_library


@dataclass(frozen=True)
class PackedWeights:
    """What `gpcnn_attach` or `gpcnn_decoder_attach` takes, and the memory that a program needs with it.

    Attributes:
        content: float32, little-endian, in the blocks of the smallest kernel.
        memory: bytes of `gpcnn_attach` or `gpcnn_decoder_attach`, at most.
        workspace: bytes of `gpcnn_draw` or `gpcnn_decode` with one image, at most.
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

    _check(library.gpcnn_inspect(content, len(content), byref(info)), library, source)
    _check(library.gpcnn_packed_size(byref(info.spec), 1, byref(needs)), library, source)
    memory, weights = _memory(needs, source)
    address = ctypes.c_void_p(weights.ctypes.data)
    status = library.gpcnn_pack(content, len(content), memory.ctypes.data, memory.nbytes, address, weights.nbytes)
    _check(status, library, source)
    return PackedWeights(weights.tobytes(), needs.memory, needs.workspace)


def pack_decoder(vqvae: VqvaeSpec, weights: npt.NDArray[np.float32], source: str) -> PackedWeights:
    """Pack the weights of a VQ-VAE's codebook and decoder.

    Args:
        vqvae: its dimensions.
        weights: as `gpcnn_deploy.model_file.decoder_weights` gives them.
        source: where they are from, for messages.

    Raises:
        EngineError: as `pack_weights`.
    """
    library: Any = load_library()
    spec, needs = Pictures(**{name: getattr(vqvae, name) for name in vqvae.__struct_fields__}), PackedNeeds()
    _check(library.gpcnn_decoder_packed_size(byref(spec), byref(needs)), library, source)
    memory, packed = _memory(needs, source)
    numbers = np.ascontiguousarray(weights, np.float32)
    given = numbers.ctypes.data, numbers.size, memory.ctypes.data, memory.nbytes, packed.ctypes.data, packed.nbytes
    _check(library.gpcnn_decoder_pack(byref(spec), *given), library, source)
    return PackedWeights(packed.tobytes(), needs.memory, needs.workspace)


def _check(status: int, library: Any, source: str) -> None:
    if status:
        text = library.gpcnn_status_text(status).decode()
        raise EngineError(f"{source}: its weights cannot be packed ({text}): export it anew")


def _memory(needs: PackedNeeds, source: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """(scratch, packed weights)."""
    try:
        return aligned(needs.memory), aligned(needs.weights)
    except MemoryError as error:
        raise EngineError(f"{source}: no memory to pack the weights ({needs.weights} bytes)") from error
