"""Checkpoint → ONNX graphs → TensorRT plans, each checked against eager PyTorch before it gets its final name."""

from typing import TYPE_CHECKING, Any

from gpcnn_deploy import __version__

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


def __getattr__(name: str) -> Any:
    """Public names are loaded when they are first asked for (PEP 562): importing the package alone stays cheap."""
    for module, names in _MODULES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
