"""What tests marked `gpu` need of this machine; where it is missing, they are skipped and say why."""

from __future__ import annotations

import pytest

from gpcnn_deploy.errors import GpcnnError
from gpcnn_runtime.engines.onnxruntime.providers import place
from gpcnn_runtime.engines.plan_file import Flavor
from gpcnn_runtime.engines.tensorrt.gpu import Gpu, find_gpu
from gpcnn_runtime.engines.tensorrt.library import is_installed, load


def needs_gpu() -> Gpu:
    """The GPU of this machine."""
    try:
        return find_gpu()
    except GpcnnError as error:
        pytest.skip(f"needs a GPU: {error}")


def needs_tensorrt(flavor: Flavor) -> Gpu:
    """The GPU, for which this flavour of TensorRT is installed."""
    gpu = needs_gpu()
    if not is_installed(flavor):
        pytest.skip(f"needs {flavor}, which is not installed")
    capabilities = load(flavor).portable_capabilities()
    if capabilities and gpu.compute_capability not in capabilities:
        pytest.skip(
            f"{flavor} runs on compute capability {', '.join(capabilities)}; this GPU has {gpu.compute_capability}"
        )
    return gpu


def needs_provider(provider: str) -> Gpu:
    """The GPU, for which ONNX Runtime has this execution provider."""
    gpu = needs_gpu()
    try:
        place(provider)  # type: ignore[arg-type]
    except GpcnnError as error:
        pytest.skip(f"needs ONNX Runtime's {provider}: {error}")
    return gpu
