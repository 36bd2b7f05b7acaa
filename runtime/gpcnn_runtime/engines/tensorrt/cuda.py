"""What a loop on a GPU holds: streams, device memory and CUDA graphs. Each is released by `close`, also twice.

cuda-python is imported by `gpcnn_runtime.engines.tensorrt.gpu` when the first of them is made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gpcnn_deploy.errors import EngineError
from gpcnn_runtime.engines.tensorrt.gpu import CudaError, call, cuda_runtime


class Stream:
    """A CUDA stream of its own, which does not wait for the default stream."""

    def __init__(self) -> None:
        """Create it.

        Raises:
            CudaError: CUDA could not.
        """
        self._cuda = cuda_runtime()
        self.handle: Any = call(self._cuda.cudaStreamCreateWithFlags, self._cuda.cudaStreamNonBlocking)

    def __int__(self) -> int:
        """The handle as TensorRT takes it."""
        return int(self.handle)

    def synchronize(self) -> None:
        """Wait for all that was put on the stream.

        Raises:
            CudaError: some of it failed.
        """
        call(self._cuda.cudaStreamSynchronize, self.handle)

    def close(self) -> None:
        """Destroy the stream."""
        handle, self.handle = self.handle, None
        if handle is not None:
            with contextlib.suppress(CudaError):
                call(self._cuda.cudaStreamDestroy, handle)


class DeviceBuffer:
    """Device memory of one array's size."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        """Allocate it.

        Raises:
            CudaError: CUDA could not; `out_of_memory` says whether memory was what it lacked.
        """
        self._cuda = cuda_runtime()
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._bytes = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        self.address: int = int(call(self._cuda.cudaMalloc, self._bytes))

    def upload(self, array: npt.NDArray[Any], stream: Stream) -> None:
        """Copy an array of this shape and dtype here; it must stay as it is until the stream is synchronized.

        Raises:
            CudaError: the copy failed.
            EngineError: another shape or dtype.
        """
        self._check(array)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        call(self._cuda.cudaMemcpyAsync, self.address, array.ctypes.data, self._bytes, kind, stream.handle)

    def download(self, array: npt.NDArray[Any], stream: Stream) -> None:
        """Copy this memory into an array of its shape and dtype, complete once the stream is synchronized.

        Raises:
            CudaError: the copy failed.
            EngineError: another shape or dtype.
        """
        self._check(array)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call(self._cuda.cudaMemcpyAsync, array.ctypes.data, self.address, self._bytes, kind, stream.handle)

    def close(self) -> None:
        """Free the memory."""
        address, self.address = self.address, 0
        if address:
            with contextlib.suppress(CudaError):
                call(self._cuda.cudaFree, address)

    def _check(self, array: npt.NDArray[Any]) -> None:
        if array.shape != self.shape or array.dtype != self.dtype or not array.flags.c_contiguous:
            raise EngineError(
                f"device memory of {self.dtype} {list(self.shape)} was given {array.dtype} {list(array.shape)}"
            )


class HostBuffer:
    """Host memory with the interface of `DeviceBuffer`, for the scalars that TensorRT keeps on the host."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self._array: npt.NDArray[Any] = np.zeros(shape, dtype)
        self.address = self._array.ctypes.data

    def upload(self, array: npt.NDArray[Any], stream: Stream) -> None:
        """Copy an array here, behind all that is on the stream."""
        stream.synchronize()
        self._array[...] = array

    def download(self, array: npt.NDArray[Any], stream: Stream) -> None:
        """Copy into an array, behind all that is on the stream."""
        stream.synchronize()
        array[...] = self._array

    def close(self) -> None:
        """Nothing to release."""


class Graph:
    """Work of a stream, recorded once and replayed with one launch; shapes and addresses are frozen in it."""

    def __init__(self, stream: Stream, work: Callable[[], None]) -> None:
        """Record what `work` puts on the stream; nothing of it is executed.

        Raises:
            CudaError: something in it cannot be recorded.
        """
        self._cuda = cuda = cuda_runtime()
        self._exec: Any = None
        call(cuda.cudaStreamBeginCapture, stream.handle, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            work()
        except BaseException:
            with contextlib.suppress(CudaError):  # a stream left recording could do nothing else any more
                call(cuda.cudaGraphDestroy, call(cuda.cudaStreamEndCapture, stream.handle))
            raise
        graph = call(cuda.cudaStreamEndCapture, stream.handle)
        try:
            self._exec = call(cuda.cudaGraphInstantiate, graph, 0)
        finally:
            with contextlib.suppress(CudaError):
                call(cuda.cudaGraphDestroy, graph)

    def launch(self, stream: Stream) -> None:
        """Put the recorded work on a stream.

        Raises:
            CudaError: CUDA could not.
        """
        call(self._cuda.cudaGraphLaunch, self._exec, stream.handle)

    def close(self) -> None:
        """Destroy the recording."""
        recorded, self._exec = self._exec, None
        if recorded is not None:
            with contextlib.suppress(CudaError):
                call(self._cuda.cudaGraphExecDestroy, recorded)
