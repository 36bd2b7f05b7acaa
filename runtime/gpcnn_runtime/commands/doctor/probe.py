"""One question of `gpcnn-doctor`, asked in a process of its own: a driver or a library that crashes ends that alone.

    python -m gpcnn_runtime.commands.doctor.probe native
    python -m gpcnn_runtime.commands.doctor.probe provider cpu | cuda | tensorrt | nv-tensorrt-rtx
    python -m gpcnn_runtime.commands.doctor.probe tensorrt tensorrt | tensorrt-rtx
    python -m gpcnn_runtime.commands.doctor.probe gpu

prints an `Answer` as one line of JSON, or ends with one line `Error: …` on stderr.
"""

from __future__ import annotations

import sys
from typing import cast

import msgspec

from gpcnn_deploy.commands.child import answer
from gpcnn_deploy.commands.extras import require
from gpcnn_deploy.errors import EngineError, GpcnnError
from gpcnn_runtime.engines.onnxruntime.providers import Provider
from gpcnn_runtime.engines.plan_file import Flavor

_SIZE = 8


class GpuFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A CUDA device.

    Attributes:
        name: as its driver gives it.
        compute_capability: such as "8.6".
        memory_mb: its memory, in MB; 0 where the driver does not tell.
    """

    name: str
    compute_capability: str
    memory_mb: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        detail: for people: what ran, or which version was loaded.
        gpus: CUDA devices, for the question `gpu`.
        capabilities: compute capabilities that a TensorRT flavour's plans can run on; empty: those of any GPU.
    """

    detail: str = ""
    gpus: tuple[GpuFacts, ...] = ()
    capabilities: tuple[str, ...] = ()


def native() -> Answer:
    """Draw a tiny image with the native engine.

    Raises:
        EngineError: its library is missing, cannot be loaded, or draws something else.
    """
    import numpy as np

    from gpcnn_deploy import __version__
    from gpcnn_deploy.metadata import EngineMetadata
    from gpcnn_deploy.model_file import encode_model_file, tensor_shapes
    from gpcnn_deploy.spec import ModelSpec
    from gpcnn_runtime.engines.native.library import NativeModel, instruction_sets

    spec = ModelSpec(height=2, width=_SIZE, levels=4, features=4, layers=2, head_features=4)
    weights = {name: np.zeros(shape, np.float32) for name, shape in tensor_shapes(spec).items()}
    metadata = EngineMetadata(role="weights", spec=spec, parameters=1, checkpoint_digest="", tools={})
    model = NativeModel(encode_model_file(metadata, weights), "a model of the doctor's own")
    noise = np.linspace(0, 1, spec.subpixels, endpoint=False, dtype=np.float32).reshape(1, *spec.image_shape)
    levels, _, _ = model.draw(noise)  # of weights that are all zero, whose levels are all equally likely
    if not np.array_equal(levels, np.floor(noise * spec.levels)):
        raise EngineError("the native engine draws wrong images: install gpcnn-deploy anew")
    others = [name for name in instruction_sets() if name not in model.instructions]
    also = f" (also {', '.join(others)})" if others else ""
    return Answer(detail=f"native engine {__version__}, {model.instructions}{also}")


def provider(name: Provider) -> Answer:
    """Run a tiny matrix product on an execution provider of ONNX Runtime.

    Raises:
        EngineError: the provider is not there, does not start, or computes something else.
        MissingExtraError: ONNX Runtime is not installed.
    """
    import numpy as np

    from gpcnn_runtime.engines.onnxruntime.gemm import matmul_model
    from gpcnn_runtime.engines.onnxruntime.providers import place, running

    require(f"provider {name}", "cpu" if name == "cpu" else "gpu", "onnxruntime")
    import onnxruntime

    placement = place(name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = placement.session(matmul_model(_SIZE), options)
        title = running(session, placement)
        (result,) = session.run(None, {"x": np.full((_SIZE, _SIZE), 0.5, np.float32)})
    except GpcnnError:
        raise
    except Exception as error:  # ONNX Runtime's classes share no base but Exception
        raise EngineError(f"provider {name} does not start: {brief(error)}") from error
    if not np.allclose(result, 0.125 * _SIZE):
        raise EngineError(f"provider {name} computes a wrong product: {result.flat[0]:g}, expected {0.125 * _SIZE:g}")
    return Answer(detail=f"onnxruntime {onnxruntime.__version__}, {title}")


def tensorrt(flavor: Flavor) -> Answer:
    """Import a flavour of TensorRT.

    Raises:
        NotHereError: it is installed but broken.
        MissingExtraError: it is not installed.
    """
    from gpcnn_runtime.engines.tensorrt.library import load

    library = load(flavor)
    return Answer(detail=library.version, capabilities=library.portable_capabilities())


def gpu() -> Answer:
    """All CUDA devices.

    Raises:
        NotHereError: no driver or no GPU answers.
        MissingExtraError: cuda-python is not installed.
    """
    from gpcnn_runtime.engines.tensorrt.gpu import call, cuda_runtime, find_gpu

    find_gpu()  # says why there is none
    runtime = cuda_runtime()
    attribute = runtime.cudaDeviceAttr
    found = []
    for index in range(call(runtime.cudaGetDeviceCount)):
        major = call(runtime.cudaDeviceGetAttribute, attribute.cudaDevAttrComputeCapabilityMajor, index)
        minor = call(runtime.cudaDeviceGetAttribute, attribute.cudaDevAttrComputeCapabilityMinor, index)
        properties = call(runtime.cudaGetDeviceProperties, index)
        memory = getattr(properties, "totalGlobalMem", 0) // 1_000_000
        found.append(GpuFacts(name=properties.name.decode(), compute_capability=f"{major}.{minor}", memory_mb=memory))
    return Answer(gpus=tuple(found))


def brief(error: Exception, most: int = 200) -> str:
    """An error in one line, cut to what people read."""
    text = " ".join(str(error).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def main(arguments: list[str]) -> int:
    """Answer one question."""
    kind, *name = arguments
    if kind == "native":
        return answer(native)
    if kind == "provider":
        return answer(lambda: provider(cast(Provider, name[0])))
    if kind == "tensorrt":
        return answer(lambda: tensorrt(cast(Flavor, name[0])))
    return answer(gpu)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
