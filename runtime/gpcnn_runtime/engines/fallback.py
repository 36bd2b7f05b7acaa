"""A plan where it can run, else the portable ONNX engine that was written beside it: the same images, more slowly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpcnn_deploy.errors import EngineError, MissingExtraError, NotHereError
from gpcnn_runtime.engines.base import Engine
from gpcnn_runtime.engines.plan_file import portable_path, read_plan_metadata


def load_plan_or_portable(plan: Path, fallback: bool, warn: Callable[[str], None]) -> Engine:
    """Load a plan; where this machine cannot run it, its portable engine on the CPU.

    A plan that is damaged or was changed is an error in either case.

    Args:
        plan: the plan file.
        fallback: whether the portable engine may take its place.
        warn: told in one line why it did.

    Raises:
        EngineError: neither can run; the message says why for both.
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
    from gpcnn_runtime.engines.onnxruntime.load import load_onnx_engine

    portable = portable_path(plan)
    cannot = f"{plan} cannot run here: {reason}"
    if not portable.is_file():
        raise EngineError(f"{cannot}; and there is no {portable.name} beside it to run instead") from reason
    try:
        engine = load_onnx_engine(portable)
    except (EngineError, MissingExtraError) as error:
        raise EngineError(f"{cannot}; nor can {portable.name}: {error}") from error
    wanted = read_plan_metadata(plan).engine
    if (engine.metadata.checkpoint_digest, engine.metadata.spec) != (wanted.checkpoint_digest, wanted.spec):
        engine.close()
        raise EngineError(f"{cannot}; and {portable.name} beside it is of another checkpoint: export both anew")
    images = (
        "the same images" if wanted.precision == "fp32" else "the fp32 model's images, which the plan's are close to"
    )
    warn(f"{cannot}. {portable.name} runs on the CPU instead: {images}, more slowly; --no-fallback makes this an error")
    return engine
