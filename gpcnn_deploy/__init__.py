"""Shared core of gpcnn-deploy: model specs, engine metadata, noise, pictures, errors; heavy imports on demand."""

import os

# ONNX Runtime would else write a device ID and a database into the home folder, and look up a collector's host. It
# reads this when it is imported, and so do processes that are started from here. A user's own setting wins.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
