"""Engines on TensorRT and TensorRT-RTX: plans. `library` is the only module that imports one of them."""
