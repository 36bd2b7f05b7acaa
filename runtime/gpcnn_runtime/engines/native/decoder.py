"""The decoder of a VQ-VAE in the native engine's library: codes become pictures."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from ctypes import byref, c_void_p

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.model_file import decoder_weights
from gpcnn_deploy.spec import VqvaeSpec
from gpcnn_deploy.text import counted
from gpcnn_runtime.engines.base import OutOfMemoryError
from gpcnn_runtime.engines.native.library import NativeModel, Pictures, aligned


class NativeDecoder:
    """A decoder in the library's memory. Several threads may decode with it at once."""

    def __init__(self, prior: NativeModel, spec: VqvaeSpec, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Pack the weights for what the prior computes with.

        Args:
            prior: the model of the codes; of two levels, that of the bottom codes.
            spec: of the VQ-VAE.
            weights: those of its model file.

        Raises:
            EngineError: the library refuses them.
            OutOfMemoryError: no memory for the weights.
        """
        self._prior, self._spec = prior, spec
        together = decoder_weights(spec, weights)
        fields = {name: getattr(spec, name) for name in spec.__struct_fields__}
        self._pictures = Pictures(**fields)
        library = prior.library
        size = library.gpcnn_decoder_bytes(prior.handle, byref(self._pictures))
        try:
            if size == 0:
                raise MemoryError
            self._memory: npt.NDArray[np.uint8] | None = aligned(size)
        except MemoryError as error:
            raise OutOfMemoryError(f"{prior.source}: no memory for the decoder's weights ({size} bytes)") from error
        decoder, address = c_void_p(), self._memory.ctypes.data
        floats, count = together.ctypes.data, together.size
        prior.check(
            library.gpcnn_decoder_load(
                prior.handle, byref(self._pictures), floats, count, address, size, byref(decoder)
            )
        )
        self._decoder = decoder
        self._need = library.gpcnn_decoder_workspace_bytes(decoder)
        self._lock = threading.Lock()
        self._idle: list[npt.NDArray[np.uint8]] = []

    def close(self) -> None:
        """Release the memory; a call that is running keeps it until it returns. A second call does nothing."""
        with self._lock:
            self._memory, self._idle = None, []

    def decode(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
        """Pictures uint8 [N, C, H, W] of codes int32 [N, 1, h, w]; of two levels, their sheet.

        Raises:
            EngineError: the decoder is closed, or a code is out of range.
            OutOfMemoryError: no memory for the pictures.
        """
        memory = self._memory
        if memory is None:
            raise EngineError(f"{self._prior.source}: the engine is closed: load it again")
        with self._lock:
            workspace = self._idle.pop() if self._idle else None
        try:
            if workspace is None:
                workspace = aligned(self._need)
            pictures = np.empty((len(codes), *self._spec.image_shape), np.uint8)
        except MemoryError as error:
            raise OutOfMemoryError(f"not enough memory for {counted(len(codes), 'image')} at a time") from error
        codes = np.ascontiguousarray(codes, np.int32)
        status = self._prior.library.gpcnn_decode(
            self._decoder,
            len(codes),
            codes.ctypes.data,
            pictures.ctypes.data,
            workspace.ctypes.data,
            workspace.nbytes,
        )
        with self._lock:
            if self._memory is not None:
                self._idle.append(workspace)
        self._prior.check(status, len(codes))
        return pictures
