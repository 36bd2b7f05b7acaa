"""From a path to an engine: the suffix decides which runtime loads it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.model_file import SUFFIX
from gpcnn_runtime.engines.base import Engine
from gpcnn_runtime.zoo.catalogue import DEFAULT, PREFIX, names, resolve_engine

if TYPE_CHECKING:
    from gpcnn_runtime.engines.onnxruntime.providers import Provider

DEFAULT_ENGINES = (Path("model.gpcnn"), Path("model.onnx"), Path("model.plan"))
"""What `gpcnn-export` writes if it is not told where; where two are equally new, the first is taken."""


def engine_here() -> Path | None:
    """The engine that `gpcnn-export` wrote last into this folder; None if there is none."""
    found = [(path.stat().st_mtime_ns, -place) for place, path in enumerate(DEFAULT_ENGINES) if path.is_file()]
    return DEFAULT_ENGINES[-max(found)[1]] if found else None


def engine_or_default(given: Path | None, from_zoo: bool = False) -> Path:
    """The engine that `--engine` names, or the newest in this folder, or if need be (`from_zoo`) the zoo's default.

    Raises:
        UsageError: there is none.
    """
    if given is not None:
        return given
    if (here := engine_here()) is not None:
        return here
    if from_zoo and DEFAULT in names():
        return Path(PREFIX + DEFAULT)
    shipped = f", such as {PREFIX}{DEFAULT}" if DEFAULT in names() else ""
    raise UsageError(
        f"no engine in this folder ({', '.join(map(str, DEFAULT_ENGINES))}): name one with --engine{shipped}, or make "
        "one: gpcnn-export"
    )


def load_engine(
    path: str | Path,
    provider: Provider = "auto",
    fallback: bool = True,
    warn: Callable[[str], None] = warnings.warn,
    reproducible: bool = False,
) -> Engine:
    """Load an engine file.

    Args:
        path: a model file (.gpcnn), an .onnx engine, a TensorRT plan, or `zoo:NAME`.
        provider: what runs an .onnx engine.
        fallback: run the model file or .onnx engine beside a plan, on the CPU, where the plan cannot run.
        warn: told in one line that and why something else runs it than would otherwise.
        reproducible: of a model file: log-probabilities with the same bits on every machine, a little more slowly.

    Raises:
        UsageError: a provider for anything but an .onnx engine, `reproducible` for anything but a model file, or no
            such model in the zoo.
        EngineError: the file is missing, damaged, foreign, or cannot run here; the message says how to mend it.
        MissingExtraError: the library that runs it is not installed.
    """
    path = resolve_engine(path)
    suffix = path.suffix.lower()
    if reproducible and suffix != SUFFIX:
        raise UsageError(f"--reproducible is for model files ({SUFFIX}): {path} is none")
    if suffix == SUFFIX:
        from gpcnn_runtime.engines.native.load import load_native_engine

        if provider not in ("auto", "cpu"):
            raise UsageError(
                f"--provider {provider} is for .onnx engines: {path} runs on the CPU, by the native engine"
            )
        return load_native_engine(path, reproducible=reproducible)
    if suffix == ".onnx":
        from gpcnn_runtime.engines.onnxruntime.load import load_onnx_engine

        return load_onnx_engine(path, provider, warn)
    if suffix in (".plan", ".engine", ".trt"):
        from gpcnn_runtime.engines.fallback import load_plan_or_portable

        if provider != "auto":
            raise UsageError(f"--provider {provider} is for .onnx engines: {path} is a plan, which TensorRT runs")
        return load_plan_or_portable(path, fallback, warn)
    if suffix in (".safetensors", ".pt", ".pth", ".ckpt"):
        raise EngineError(f"{path} is a checkpoint, no engine: gpcnn-export {path} --format native makes one")
    raise EngineError(f"{path}: expected an engine file whose name ends in {SUFFIX}, .onnx or .plan")
