"""A plan where it can run, else the model file or the ONNX engine beside it: the same images, more slowly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpcnn_deploy.errors import EngineError, MissingExtraError, NotHereError
from gpcnn_deploy.model_file import SUFFIX
from gpcnn_runtime.engines.base import Engine
from gpcnn_runtime.engines.plan_file import native_path, portable_path, read_plan_metadata


def load_plan_or_portable(plan: Path, fallback: bool, warn: Callable[[str], None]) -> Engine:
    """Load a plan; where this machine cannot run it, the model file or ONNX engine beside it, on the CPU.

    A plan that is damaged or was changed is an error in either case.

    Args:
        plan: the plan file.
        fallback: whether one of those may take its place.
        warn: told in one line why it did.

    Raises:
        EngineError: none of them can run; the message says why for each.
        NotHereError, MissingExtraError: without `fallback`, the plan cannot run here.
    """
    from gpcnn_runtime.engines.tensorrt.load import load_plan_engine

    try:
        return load_plan_engine(plan)
    except (NotHereError, MissingExtraError) as error:
        if not fallback:
            raise
        reason = error
    return _portable(plan, reason, warn)


def _portable(plan: Path, reason: EngineError | MissingExtraError, warn: Callable[[str], None]) -> Engine:
    cannot = f"{plan} cannot run here: {reason}"
    there = [path for path in (native_path(plan), portable_path(plan)) if path.is_file()]
    if not there:
        raise EngineError(
            f"{cannot}; and there is no {native_path(plan).name} or {portable_path(plan).name} beside it to run instead"
        ) from reason
    wanted = read_plan_metadata(plan).engine
    problems = []
    for path in there:
        try:
            engine = _load(path)
        except (EngineError, MissingExtraError) as error:
            problems.append(f"nor can {path.name}: {error}")
            continue
        if (engine.metadata.checkpoint_digest, engine.metadata.spec) != (wanted.checkpoint_digest, wanted.spec):
            engine.close()
            problems.append(f"and {path.name} beside it is of another checkpoint: export both anew")
            continue
        same = wanted.precision == "fp32"
        images = "the same images" if same else "the fp32 model's images, which the plan's are close to"
        if same and wanted.vqvae is not None:
            images = "the same codes, and pictures that differ by one level at most"
        warn(f"{cannot}. {path.name} runs on the CPU instead: {images}, more slowly; --no-fallback makes this an error")
        return engine
    raise EngineError("; ".join([cannot, *problems])) from reason


def _load(path: Path) -> Engine:
    if path.suffix == SUFFIX:
        from gpcnn_runtime.engines.native.load import load_native_engine

        return load_native_engine(path)
    from gpcnn_runtime.engines.onnxruntime.load import load_onnx_engine

    return load_onnx_engine(path)
