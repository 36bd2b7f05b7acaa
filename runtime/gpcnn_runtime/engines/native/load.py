"""From a model file to the native engine."""

from __future__ import annotations

from pathlib import Path

from gpcnn_deploy import __version__
from gpcnn_deploy.errors import UsageError
from gpcnn_deploy.model_file import decode_model_file, priors_alone, read_model_bytes
from gpcnn_runtime.engines.base import Engine, EngineInfo
from gpcnn_runtime.engines.native.decoder import NativeDecoder
from gpcnn_runtime.engines.native.engine import NativeEngine
from gpcnn_runtime.engines.native.levels import NativeLevels
from gpcnn_runtime.engines.native.library import NativeModel


def load_native_engine(
    path: Path, window: int = 0, reproducible: bool = False, instructions: str | None = None
) -> Engine:
    """Load a model file.

    Args:
        path: the file.
        reproducible: compute without fused multiply-add: log-probabilities have the same bits on every machine.
        window: columns guessed at a time; 0 leaves the choice to the library. All draw the same images.
        instructions: one of `gpcnn_runtime.engines.native.library.instruction_sets()`; default: the best.

    Raises:
        EngineError: the file is missing, damaged, foreign or of a newer schema, the library is missing, or this CPU has
            no such instructions.
        OutOfMemoryError: no memory for the weights.
        UsageError: a window that is wider than the images.
    """
    return native_engine(path, read_model_bytes(path), window, reproducible, instructions)


def native_engine(
    path: Path, content: bytes, window: int = 0, reproducible: bool = False, instructions: str | None = None
) -> Engine:
    """An engine from the bytes of a model file; `path` names it in messages, and need not exist.

    Raises:
        EngineError, OutOfMemoryError, UsageError: as `load_native_engine`.
    """
    metadata, weights = decode_model_file(content, str(path))
    if not 0 <= window <= metadata.spec.width:
        raise UsageError(f"window is {window}: expected 0 to {metadata.spec.width}")
    alone = metadata.vqvae is None and metadata.spec.code_levels == 1
    files = (content,) if alone else priors_alone(metadata, weights)
    models = tuple(NativeModel(file, str(path), reproducible, instructions) for file in files)
    decoder = None if metadata.vqvae is None else NativeDecoder(models[-1], metadata.vqvae, weights)
    info = EngineInfo(path, "native engine", __version__, f"CPU, {models[0].instructions}", content)
    model = models[0] if len(models) == 1 else NativeLevels(metadata.spec, *models)
    return NativeEngine(model, metadata, info, window, decoder)
