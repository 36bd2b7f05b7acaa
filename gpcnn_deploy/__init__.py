"""Shared core of gpcnn-deploy: model specs, engine metadata, noise, pictures and errors (numpy + msgspec only)."""

__version__ = "0.1.0"
