"""Plans for the double, of small models of every kind that a plan can have."""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path
from typing import Any

import onnx
from small_engines import engine_bytes, metadata_of
from tensorrt_double import MAGIC

from gpcnn_deploy.metadata import EngineMetadata
from gpcnn_deploy.schedule import Schedule
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.engines.plan_file import PlanMetadata, PlanTensor, encode_plan_metadata, metadata_path

SMALL = {"features": 6, "layers": 2, "first_kernel_size": 5, "head_features": 8}
LABEL = ModelSpec(height=6, width=5, levels=2, conditioning="label", conditioning_size=3, **SMALL)
UNCONDITIONAL = ModelSpec(height=5, width=4, levels=2, **SMALL)
GREY = ModelSpec(height=4, width=6, levels=17, **SMALL)
COLOUR = ModelSpec(height=3, width=4, channels=3, levels=256, **SMALL)
EMBEDDING = ModelSpec(height=4, width=4, levels=5, conditioning="embedding", conditioning_size=7, **SMALL)
SPECS = {
    "label": LABEL,
    "unconditional": UNCONDITIONAL,
    "17 levels": GREY,
    "256-level RGB": COLOUR,
    "embedding": EMBEDDING,
}


def tensors_of(model: onnx.ModelProto, max_batch: int) -> tuple[PlanTensor, ...]:
    """A plan's inputs and outputs, from the ONNX file's own."""
    found = []
    for mode, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            of_tensor = value.type.tensor_type
            shape = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in of_tensor.shape.dim)
            dtype = onnx.helper.tensor_dtype_to_np_dtype(of_tensor.elem_type).name
            profile = None
            if mode == "input" and shape:
                profile = tuple((batch, *shape[1:]) for batch in (1, min(8, max_batch), max_batch))
            found.append(PlanTensor(name=value.name, mode=mode, dtype=dtype, shape=shape, profile=profile))  # type: ignore[arg-type]
    return tuple(found)


def write_plan(
    folder: Path, spec: ModelSpec, window: int | Schedule | None, flavor: str = "tensorrt", **changes: Any
) -> Path:
    """A plan for the double, its metadata and the portable ONNX engine; `changes` go into the metadata."""
    plan, onnx_bytes = folder / "model.plan", engine_bytes(spec, window)
    plan.with_suffix(".onnx").write_bytes(onnx_bytes)
    return write_plan_of(plan, onnx_bytes, metadata_of(spec, window), flavor, **changes)


def write_plan_of(
    plan: Path, onnx_bytes: bytes, metadata: EngineMetadata, flavor: str = "tensorrt", **changes: Any
) -> Path:
    """A plan for the double that computes an ONNX file, and its metadata; `changes` go into the metadata."""
    content = MAGIC + onnx_bytes
    plan.write_bytes(content)
    fields: dict[str, Any] = {
        "engine": metadata,
        "digest": hashlib.sha256(content).hexdigest(),
        "flavor": flavor,
        "tensorrt_version": "99.1",
        "platform": f"{sys.platform}-{platform.machine()}",
        "compute_capabilities": ("8.6", "8.9"),
        "max_batch": 64,
        "opt_batch": 8,
        "tensors": tensors_of(onnx.load_model_from_string(onnx_bytes), changes.get("max_batch", 64)),
    }
    metadata_path(plan).write_bytes(encode_plan_metadata(PlanMetadata(**{**fields, **changes})))
    return plan
