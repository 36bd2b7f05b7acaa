"""PyTorch side of gpcnn-deploy: the model, data sets, checkpoints, the training loop and the reference samplers."""

from typing import TYPE_CHECKING

from gpcnn_deploy import __version__
from gpcnn_deploy.lazy import on_demand

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

__getattr__ = on_demand(__name__, _MODULES)
