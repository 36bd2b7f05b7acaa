"""Bulk drawing and scoring on a cluster: classes that `ray.data` makes actors of.

The only part of the runtime that may import Ray, which the extra `ray` brings, and it does so only where it is told to
use the object store. The classes work without Ray, too: they take a batch and return one.
"""

from typing import TYPE_CHECKING

from gpcnn_deploy.lazy import on_demand

if TYPE_CHECKING:
    from gpcnn_runtime.ray.drawing import Drawer
    from gpcnn_runtime.ray.engine import EngineBytes, put_engine
    from gpcnn_runtime.ray.scoring import Scorer

_MODULES = {
    "gpcnn_runtime.ray.drawing": ("Drawer",),
    "gpcnn_runtime.ray.engine": ("EngineBytes", "put_engine"),
    "gpcnn_runtime.ray.scoring": ("Scorer",),
}

__all__ = ["Drawer", "EngineBytes", "Scorer", "put_engine"]

__getattr__ = on_demand(__name__, _MODULES)
