"""Shared core of gpcnn-deploy: model specs, engine metadata, noise, pictures, errors."""

import os
from typing import TYPE_CHECKING

from gpcnn_deploy.lazy import on_demand

# ONNX Runtime would else write a device ID and a database into the home folder, and look up a collector's host. It
# reads this when it is imported, and so do processes that are started from here. A user's own setting wins.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gpcnn_deploy.errors import (
        CheckpointError,
        DataError,
        EngineError,
        GpcnnError,
        InterruptedRun,
        MissingExtraError,
        NotHereError,
        OutputError,
        ParityError,
        SpecError,
        TrainingError,
        UsageError,
    )
    from gpcnn_deploy.metadata import EngineMetadata
    from gpcnn_deploy.philox import noise
    from gpcnn_deploy.spec import ModelSpec

_MODULES = {
    "gpcnn_deploy.errors": (
        "CheckpointError",
        "DataError",
        "EngineError",
        "GpcnnError",
        "InterruptedRun",
        "MissingExtraError",
        "NotHereError",
        "OutputError",
        "ParityError",
        "SpecError",
        "TrainingError",
        "UsageError",
    ),
    "gpcnn_deploy.metadata": ("EngineMetadata",),
    "gpcnn_deploy.philox": ("noise",),
    "gpcnn_deploy.spec": ("ModelSpec",),
}

__all__ = [
    "CheckpointError",
    "DataError",
    "EngineError",
    "EngineMetadata",
    "GpcnnError",
    "InterruptedRun",
    "MissingExtraError",
    "ModelSpec",
    "NotHereError",
    "OutputError",
    "ParityError",
    "SpecError",
    "TrainingError",
    "UsageError",
    "__version__",
    "noise",
]

__getattr__ = on_demand(__name__, _MODULES)
