"""The GPU of this machine, asked through cuda-python (12.6 or newer), which is imported only here and when needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpcnn_deploy.commands.extras import require
from gpcnn_deploy.errors import EngineError, NotHereError


@dataclass(frozen=True)
class Gpu:
    """A CUDA device.

    Attributes:
        name: as its driver gives it.
        compute_capability: such as "8.6".
        index: CUDA's number of it in this process.
    """

    name: str
    compute_capability: str
    index: int = 0

    def use(self) -> None:
        """Make it the current device of the calling thread.

        Raises:
            CudaError: CUDA could not.
        """
        call(cuda_runtime().cudaSetDevice, self.index)


class CudaError(EngineError):
    """A CUDA call that failed.

    Attributes:
        out_of_memory: memory is what it lacked.
    """

    def __init__(self, message: str, out_of_memory: bool = False) -> None:
        super().__init__(message)
        self.out_of_memory = out_of_memory


def cuda_runtime() -> Any:
    """The module `cuda.bindings.runtime`.

    Raises:
        MissingExtraError: cuda-python is not installed.
    """
    require("a TensorRT plan", "plan", "cuda.bindings.runtime")
    from cuda.bindings import runtime

    return runtime


def call(function: Any, *arguments: Any) -> Any:
    """One CUDA runtime call: its single result, or None where it has none.

    Raises:
        CudaError: the call failed; the message names it and says why.
    """
    try:
        code, *results = function(*arguments)
    except RuntimeError as error:  # cuda-python itself, where the driver's library is missing
        raise CudaError(f"{function.__name__} failed: {error}") from error
    if int(code) != 0:
        runtime = cuda_runtime()
        try:
            _, text = runtime.cudaGetErrorString(code)
            reason = text.decode()
        except RuntimeError:
            reason = str(code)
        lacking = int(code) == int(runtime.cudaError_t.cudaErrorMemoryAllocation)
        raise CudaError(f"{function.__name__} failed: {reason}", lacking)
    return results[0] if results else None


def find_gpu() -> Gpu:
    """The current CUDA device of the calling thread.

    Raises:
        NotHereError: no driver or no GPU answers; the message says which.
        MissingExtraError: cuda-python is not installed.
    """
    runtime = cuda_runtime()
    try:
        if call(runtime.cudaGetDeviceCount) == 0:
            raise NotHereError("no NVIDIA GPU answers (cudaGetDeviceCount found none)")
        device = call(runtime.cudaGetDevice)
        attribute = runtime.cudaDeviceAttr
        major = call(runtime.cudaDeviceGetAttribute, attribute.cudaDevAttrComputeCapabilityMajor, device)
        minor = call(runtime.cudaDeviceGetAttribute, attribute.cudaDevAttrComputeCapabilityMinor, device)
        name = call(runtime.cudaGetDeviceProperties, device).name.decode()
    except CudaError as error:
        raise NotHereError(f"no NVIDIA GPU answers ({error})") from error
    return Gpu(name, f"{major}.{minor}", int(device))
