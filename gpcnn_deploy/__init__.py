"""Shared core of gpcnn-deploy: model specs, engine metadata, noise, pictures, errors; heavy imports on demand."""

__version__ = "0.1.0"
