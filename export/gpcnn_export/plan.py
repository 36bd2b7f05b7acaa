"""ONNX engine → TensorRT plan. Needs no torch and no training code: a plan can be built on the device that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpcnn_deploy.metadata import Precision
from gpcnn_deploy.plan_metadata import PlanMetadata

FlavorChoice = Literal["auto", "tensorrt", "tensorrt-rtx"]
Progress = Callable[[str, int, int], bool]
"""Called with (phase, steps done, steps in all), from any thread; False stops the build."""


@dataclass(frozen=True)
class PlanReport:
    """What a build made: the three files, what is in the plan, and how long the build took."""

    plan: Path
    metadata_file: Path
    portable: Path
    metadata: PlanMetadata
    plan_bytes: int
    seconds: float

    def __str__(self) -> str:
        """One line for people: flavour, version, GPUs, size and time."""
        m = self.metadata
        return (
            f"{self.plan}: {m.engine.role} plan, {m.engine.precision}, batch 1 to {m.max_batch}, built by {m.flavor} "
            f"{m.tensorrt_version} in {self.seconds:.1f} s, {self.plan_bytes / 1e6:.1f} MB; "
            f"runs on compute capability {', '.join(m.compute_capabilities)}"
        )


def build_plan(
    onnx_path: Path,
    out: Path,
    *,
    portable: Path | None = None,
    flavor: FlavorChoice = "auto",
    precision: Precision = "fp32",
    max_batch: int = 64,
    opt_batch: int = 8,
    progress: Progress | None = None,
) -> PlanReport:
    """Build a plan and write it, its metadata and the portable engine beside it; all three appear, or none.

    Args:
        onnx_path: an ONNX engine of this project, role step or sampler; the plan gets its role.
        out: the plan, such as `model.plan`; `model.plan.json` and `model.onnx` are written beside it.
        portable: the ONNX engine to write as `model.onnx`; None takes `onnx_path`, unless a `model.onnx` of the same
            checkpoint is already there, which is kept.
        flavor: `auto` takes tensorrt where it is installed and a GPU answers, else tensorrt-rtx.
        precision: fp16 computes the network in half precision; head and sampling stay fp32. Images are then close to
            the fp32 engine's, not equal to them.
        max_batch: most images in one call.
        opt_batch: batch size to tune for.
        progress: shown the build's phases.

    Raises:
        UsageError: the batch sizes contradict each other.
        EngineError: not an engine of this project, or TensorRT refuses it; the message names the cause.
        MissingExtraError: no TensorRT, or not the one asked for, is installed.
        OutputError: a file cannot be written.
    """
    raise NotImplementedError
