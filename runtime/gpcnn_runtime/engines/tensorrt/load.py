"""From a plan file to an engine: it is checked in every way before TensorRT sees a byte of it."""

from __future__ import annotations

from pathlib import Path

from gpcnn_deploy.errors import EngineError, NotHereError
from gpcnn_runtime.engines.base import Engine, EngineInfo
from gpcnn_runtime.engines.plan_file import (
    PlanMetadata,
    PlanTensor,
    check_described,
    check_here,
    check_tensors,
    read_decoder,
    read_plan,
    read_plan_metadata,
)
from gpcnn_runtime.engines.tensorrt.engine import PlanDecoder, PlanSampler, PlanStep
from gpcnn_runtime.engines.tensorrt.gpu import CudaError, Gpu, find_gpu
from gpcnn_runtime.engines.tensorrt.library import Plan, TensorRT, load

_NAMES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}


def load_plan_engine(path: Path) -> Engine:
    """Load a plan of either role that draws, and with a VQ-VAE's step the plan of its decoder.

    The digest, the flavour, the version and the compute capability are checked before TensorRT sees a byte of it.

    Raises:
        EngineError: the plan or its metadata is missing, damaged or of a newer schema, the plan was changed, its
            inputs and outputs are others than its metadata says, or its decoder is missing, damaged or another's.
        NotHereError: it cannot run on this machine; the message says why.
        MissingExtraError: its TensorRT or cuda-python is not installed.
    """
    metadata = read_plan_metadata(path)
    if metadata.engine.role == "decoder":
        raise EngineError(
            f"{path} is a decoder, which draws nothing: name the plan beside it, which finds it by itself"
        )
    content = read_plan(path, metadata)
    beside = read_decoder(path, metadata)
    gpu = find_gpu()
    library = load(metadata.flavor)
    plan, tensors = _deserialized(path, metadata, content, gpu, library)
    info = EngineInfo(path, _NAMES[metadata.flavor], library.version, gpu.name, content)
    kind = PlanSampler if metadata.engine.role == "sampler" else PlanStep
    decoder = None if beside is None else _decoder(*beside, gpu)
    try:
        engine = kind(plan, metadata, tensors, info, gpu)
    except CudaError as error:
        if decoder is not None:
            decoder.close()
        raise NotHereError(f"{path}: this GPU cannot be used ({error})") from error
    engine.decoder = decoder
    return engine


def _deserialized(
    path: Path, metadata: PlanMetadata, content: bytes, gpu: Gpu, library: TensorRT
) -> tuple[Plan, tuple[PlanTensor, ...]]:
    """A plan and its inputs and outputs, checked; errors as `load_plan_engine`."""
    check_here(path, metadata, gpu.compute_capability, library.version)
    plan = library.deserialize(content, str(path))
    tensors = plan.tensors()
    check_tensors(metadata.engine, tensors, str(path))
    check_described(path, metadata, tensors)
    return plan, tensors


def _decoder(path: Path, metadata: PlanMetadata, content: bytes, gpu: Gpu) -> PlanDecoder:
    plan, tensors = _deserialized(path, metadata, content, gpu, load(metadata.flavor))
    try:
        return PlanDecoder(plan, metadata, tensors, path, gpu)
    except CudaError as error:
        raise NotHereError(f"{path}: this GPU cannot be used ({error})") from error
