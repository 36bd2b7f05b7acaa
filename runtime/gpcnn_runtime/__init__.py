"""Runtime of gpcnn-deploy: engines, the sampling loop and the commands. Imports neither torch nor onnx.

from gpcnn_runtime import Sampler
"""

from typing import TYPE_CHECKING

from gpcnn_deploy import __version__
from gpcnn_deploy.lazy import on_demand

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
    from gpcnn_runtime.commands.doctor.diagnosis import Diagnosis, examine
    from gpcnn_runtime.commands.join.run import Joined, join_parts
    from gpcnn_runtime.completions import Completions, complete
    from gpcnn_runtime.engines.base import Engine, OutOfMemoryError, Request, Result
    from gpcnn_runtime.engines.load import load_engine
    from gpcnn_runtime.engines.onnxruntime.encoder import Encoder
    from gpcnn_runtime.inputs.maps import read_maps
    from gpcnn_runtime.inputs.masks import keep_outside, keep_rows, read_mask
    from gpcnn_runtime.inputs.picture import read_levels
    from gpcnn_runtime.inspection import Inspection, inspect_engine
    from gpcnn_runtime.interpolation import interpolate
    from gpcnn_runtime.sampler import Sampler
    from gpcnn_runtime.samples import Samples
    from gpcnn_runtime.scores import Scores, score

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
    "gpcnn_runtime.commands.doctor.diagnosis": ("Diagnosis", "examine"),
    "gpcnn_runtime.commands.join.run": ("Joined", "join_parts"),
    "gpcnn_runtime.completions": ("Completions", "complete"),
    "gpcnn_runtime.engines.base": ("Engine", "OutOfMemoryError", "Request", "Result"),
    "gpcnn_runtime.engines.load": ("load_engine",),
    "gpcnn_runtime.engines.onnxruntime.encoder": ("Encoder",),
    "gpcnn_runtime.inputs.maps": ("read_maps",),
    "gpcnn_runtime.inputs.masks": ("keep_outside", "keep_rows", "read_mask"),
    "gpcnn_runtime.inputs.picture": ("read_levels",),
    "gpcnn_runtime.inspection": ("Inspection", "inspect_engine"),
    "gpcnn_runtime.interpolation": ("interpolate",),
    "gpcnn_runtime.sampler": ("Sampler",),
    "gpcnn_runtime.samples": ("Samples",),
    "gpcnn_runtime.scores": ("Scores", "score"),
}

__all__ = [
    "CheckpointError",
    "Completions",
    "DataError",
    "Diagnosis",
    "Encoder",
    "Engine",
    "EngineError",
    "GpcnnError",
    "Inspection",
    "InterruptedRun",
    "Joined",
    "MissingExtraError",
    "NotHereError",
    "OutOfMemoryError",
    "OutputError",
    "ParityError",
    "Request",
    "Result",
    "Sampler",
    "Samples",
    "Scores",
    "SpecError",
    "TrainingError",
    "UsageError",
    "__version__",
    "complete",
    "examine",
    "inspect_engine",
    "interpolate",
    "join_parts",
    "keep_outside",
    "keep_rows",
    "load_engine",
    "read_levels",
    "read_maps",
    "read_mask",
    "score",
]

__getattr__ = on_demand(__name__, _MODULES)
