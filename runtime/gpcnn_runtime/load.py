"""From a path to an engine: the suffix decides which runtime loads it."""

from __future__ import annotations

from pathlib import Path

from gpcnn_deploy.errors import EngineError
from gpcnn_runtime.engine import Engine


def load_engine(path: str | Path) -> Engine:
    """Load an engine file.

    Raises:
        EngineError: the file is missing, damaged, foreign, or cannot run here; the message says how to mend it.
        MissingExtraError: the library that runs it is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from gpcnn_runtime.onnx_engine import load_onnx_engine

        return load_onnx_engine(path)
    if suffix in (".plan", ".engine", ".trt"):
        raise EngineError(
            f"{path}: TensorRT plans cannot be run by this version: use the .onnx file that was exported beside it"
        )
    if suffix in (".safetensors", ".pt", ".pth", ".ckpt"):
        raise EngineError(f"{path} is a checkpoint, no engine: gpcnn-export {path} --format onnx makes one")
    raise EngineError(f"{path}: expected an engine file whose name ends in .onnx")
