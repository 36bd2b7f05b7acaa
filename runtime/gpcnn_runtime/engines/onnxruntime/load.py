"""From an .onnx file to an engine: one self-contained file, checked against its own metadata before anything runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from gpcnn_deploy.errors import EngineError
from gpcnn_deploy.ports import inputs, outputs
from gpcnn_runtime.engines.base import Engine, EngineInfo
from gpcnn_runtime.engines.onnxruntime.decoder import Decoder
from gpcnn_runtime.engines.onnxruntime.device import OnnxDeviceStep
from gpcnn_runtime.engines.onnxruntime.engine import OnnxSampler, OnnxStep
from gpcnn_runtime.engines.onnxruntime.providers import CPU, Placement, Provider, place, running
from gpcnn_runtime.engines.onnxruntime.session import check_ports, onnx_metadata, open_session, read_onnx


def load_onnx_engine(path: Path, provider: Provider = "cpu", warn: Callable[[str], None] = warnings.warn) -> Engine:
    """Load an ONNX engine of either role.

    Args:
        path: the file; its first bytes decide, not its name.
        provider: what runs it. `auto` is CUDA for a step, where it starts, and the CPU for everything else: a sampler's
            loops are driven by the CPU wherever its nodes run.
        warn: told in one line why `auto` does not take a CUDA that ONNX Runtime has.

    Raises:
        EngineError: missing, empty, truncated or foreign file, no metadata of ours, a newer schema, inputs and
            outputs that are not those of its role, or a provider that does not run.
        MissingExtraError: ONNX Runtime is not installed.
    """
    return placed_engine(path, read_onnx(path), provider, warn)


def placed_engine(
    path: Path,
    content: bytes,
    provider: Provider = "cpu",
    warn: Callable[[str], None] = warnings.warn,
    decoder: bytes | None = None,
) -> Engine:
    """As `load_onnx_engine`, from the bytes of the file, which `read_onnx` found to be sound, and of its decoder.

    Raises:
        EngineError, MissingExtraError: as `load_onnx_engine`.
    """
    if provider != "auto":
        return onnx_engine(path, content, place(provider), decoder)
    engine = onnx_engine(path, content, decoder=decoder)
    if engine.metadata.role == "step":
        try:
            cuda = place("cuda")
        except EngineError:  # this ONNX Runtime is not made for it
            return engine
        try:
            return onnx_engine(path, content, cuda, decoder)
        except EngineError as error:
            warn(f"{path} runs on the CPU: {error}")
    return engine


def onnx_engine(path: Path, content: bytes, placement: Placement = CPU, decoder: bytes | None = None) -> Engine:
    """An engine from the bytes of an ONNX file; `path` names it in messages, and need not exist.

    The decoder of a VQ-VAE's step is read from beside `path`, unless `decoder` is the content of its file.

    Raises:
        EngineError, MissingExtraError: as `load_onnx_engine`.
    """
    metadata = onnx_metadata(path, content)
    if metadata.role == "encoder":
        raise EngineError(
            f"{path} is an encoder, which draws nothing: name the engine beside it; gpcnn-sample --like finds the "
            "encoder by itself"
        )
    if metadata.role == "decoder":
        raise EngineError(
            f"{path} is a decoder, which draws nothing: name the engine beside it, which finds it by itself"
        )
    session = open_session(path, content, placement)
    from onnxruntime import __version__ as version

    sizes = metadata.role, metadata.spec, metadata.batch, metadata.vqvae
    check_ports(path, "input", session.get_inputs(), inputs(*sizes))
    check_ports(path, "output", session.get_outputs(), outputs(*sizes))
    info = EngineInfo(path, "ONNX Runtime", version, running(session, placement), content)
    if metadata.role == "sampler" or placement.memory is None or metadata.batch is not None:
        kind = OnnxSampler if metadata.role == "sampler" else OnnxStep
        engine = kind(session, metadata, info)
        engine.concurrent = placement.provider == "cpu"  # threads of one GPU would only wait for each other
    else:
        engine = OnnxDeviceStep(session, metadata, info)
    if isinstance(engine, OnnxStep) and metadata.decoder_digest is not None:
        engine.decoder = Decoder.beside(path, metadata, decoder, placement)
    return engine
