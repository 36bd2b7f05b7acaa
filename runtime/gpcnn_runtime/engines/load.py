"""From a path to an engine: the suffix decides which runtime loads it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_runtime.engines.base import Engine
from gpcnn_runtime.engines.onnxruntime.providers import Provider
from gpcnn_runtime.zoo.catalogue import DEFAULT, PREFIX, names, resolve_engine

DEFAULT_ENGINE = Path("model.onnx")


def engine_or_default(given: Path | None, from_zoo: bool = False) -> Path:
    """The engine that `--engine` names, or the one in this folder, or if need be (`from_zoo`) the zoo's default.

    Raises:
        UsageError: there is none.
    """
    if given is not None:
        return given
    if DEFAULT_ENGINE.exists():
        return DEFAULT_ENGINE
    if from_zoo and DEFAULT in names():
        return Path(PREFIX + DEFAULT)
    shipped = f", such as {PREFIX}{DEFAULT}" if DEFAULT in names() else ""
    raise UsageError(
        f"no {DEFAULT_ENGINE} in this folder: name an engine with --engine{shipped}, or make one: gpcnn-export"
    )


def load_engine(
    path: str | Path,
    provider: Provider = "auto",
    fallback: bool = True,
    warn: Callable[[str], None] = warnings.warn,
) -> Engine:
    """Load an engine file.

    Args:
        path: an .onnx engine, a TensorRT plan, or `zoo:NAME`.
        provider: what runs an .onnx engine.
        fallback: run the .onnx engine beside a plan, on the CPU, where the plan cannot run.
        warn: told in one line that and why something else runs it than would otherwise.

    Raises:
        UsageError: a provider for a plan, or no such model in the zoo.
        EngineError: the file is missing, damaged, foreign, or cannot run here; the message says how to mend it.
        MissingExtraError: the library that runs it is not installed.
    """
    path = resolve_engine(path)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from gpcnn_runtime.engines.onnxruntime.load import load_onnx_engine

        return load_onnx_engine(path, provider, warn)
    if suffix in (".plan", ".engine", ".trt"):
        from gpcnn_runtime.engines.fallback import load_plan_or_portable

        if provider != "auto":
            raise UsageError(f"--provider {provider} is for .onnx engines: {path} is a plan, which TensorRT runs")
        return load_plan_or_portable(path, fallback, warn)
    if suffix in (".safetensors", ".pt", ".pth", ".ckpt"):
        raise EngineError(f"{path} is a checkpoint, no engine: gpcnn-export {path} --format onnx makes one")
    raise EngineError(f"{path}: expected an engine file whose name ends in .onnx or .plan")
