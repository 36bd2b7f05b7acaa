"""PyTorch side of gpcnn-deploy: the model, data sets, checkpoints, the training loop and the reference samplers."""

from typing import TYPE_CHECKING, Any

from gpcnn_deploy import __version__

if TYPE_CHECKING:
    from gpcnn_training.checkpoint import load_checkpoint
    from gpcnn_training.data.sources import load_data
    from gpcnn_training.model import GatedPixelCNN

_MODULES = {
    "gpcnn_training.checkpoint": ("load_checkpoint",),
    "gpcnn_training.data.sources": ("load_data",),
    "gpcnn_training.model": ("GatedPixelCNN",),
}

__all__ = [
    "GatedPixelCNN",
    "__version__",
    "load_checkpoint",
    "load_data",
]


def __getattr__(name: str) -> Any:
    """Public names are loaded when they are first asked for (PEP 562): importing the package alone stays cheap."""
    for module, names in _MODULES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
