"""Checkpoint → ONNX graphs → TensorRT plans, each checked against eager PyTorch before it gets its final name."""

from typing import TYPE_CHECKING

from gpcnn_deploy import __version__
from gpcnn_deploy.lazy import on_demand

if TYPE_CHECKING:
    from gpcnn_export.checkpoint_to_onnx import make_engine, write_engine
    from gpcnn_export.commands.verify.verification import Verification, verify
    from gpcnn_export.onnx_to_plan import build_plan

_MODULES = {
    "gpcnn_export.checkpoint_to_onnx": ("make_engine", "write_engine"),
    "gpcnn_export.commands.verify.verification": ("Verification", "verify"),
    "gpcnn_export.onnx_to_plan": ("build_plan",),
}

__all__ = [
    "Verification",
    "__version__",
    "build_plan",
    "make_engine",
    "verify",
    "write_engine",
]

__getattr__ = on_demand(__name__, _MODULES)
