"""From a plan file to an engine: it is checked in every way before TensorRT sees a byte of it."""

from __future__ import annotations

from pathlib import Path

from gpcnn_deploy.errors import NotHereError
from gpcnn_runtime.engines.base import Engine, EngineInfo
from gpcnn_runtime.engines.plan_file import (
    check_described,
    check_here,
    check_tensors,
    read_plan,
    read_plan_metadata,
)
from gpcnn_runtime.engines.tensorrt.engine import PlanSampler, PlanStep
from gpcnn_runtime.engines.tensorrt.gpu import CudaError, find_gpu
from gpcnn_runtime.engines.tensorrt.library import load

_NAMES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}


def load_plan_engine(path: Path) -> Engine:
    """Load a plan of either role.

    The digest, the flavour, the version and the compute capability are checked before TensorRT sees a byte of it.

    Raises:
        EngineError: the plan or its metadata is missing, damaged or of a newer schema, the plan was changed, or its
            inputs and outputs are others than its metadata says.
        NotHereError: it cannot run on this machine; the message says why.
        MissingExtraError: its TensorRT or cuda-python is not installed.
    """
    metadata = read_plan_metadata(path)
    content = read_plan(path, metadata)
    gpu = find_gpu()
    library = load(metadata.flavor)
    check_here(path, metadata, gpu.compute_capability, library.version)
    plan = library.deserialize(content, str(path))
    tensors = plan.tensors()
    check_tensors(metadata.engine, tensors, str(path))
    check_described(path, metadata, tensors)
    info = EngineInfo(path, _NAMES[metadata.flavor], library.version, gpu.name, content)
    kind = PlanSampler if metadata.engine.role == "sampler" else PlanStep
    try:
        return kind(plan, metadata, tensors, info, gpu)
    except CudaError as error:
        raise NotHereError(f"{path}: this GPU cannot be used ({error})") from error
