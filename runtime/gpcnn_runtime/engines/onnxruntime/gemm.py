"""The fp32 GEMM rate of one core through ONNX Runtime: one of the yardsticks of `gpcnn-bench`.

ONNX Runtime reads models only, and building one with the `onnx` package is no business of a runtime, so the one-node
model is encoded here by hand: protobuf is nothing but tagged bytes.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

SIZES = (192, 256, 384)
"""Edges of the square matrices that are tried: within a core's cache, and large enough to amortize each call."""

SECONDS = 0.1
"""How long each size is tried, in seconds."""


def gemm_rate(seconds: float = SECONDS) -> float:
    """Peak fp32 rate of one core, multiply-adds per second: the fastest of many products of square matrices.

    Each product is one call of an ONNX Runtime session on one thread, `MatMul(x, W)` with W constant, hence packed
    beforehand as the weights of an engine are.

    Args:
        seconds: how long each size of `SIZES` is tried.
    """
    best = 0.0
    for size in SIZES:
        session = _session(size)
        feed = {"x": np.full((size, size), 0.5, np.float32)}
        stop = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < stop:
            session.run(None, feed)
            best = max(best, size**3 / (time.perf_counter() - begin))
    return best


def _session(size: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(matmul_model(size), options, providers=["CPUExecutionProvider"])


def matmul_model(size: int) -> bytes:
    """An ONNX model y = MatMul(x, W), all float32 [size, size]; field numbers as in onnx.proto."""
    weight = _number(1, size) + _number(1, size) + _number(2, 1) + _bytes(8, b"W")
    weight += _bytes(9, np.full((size, size), 0.25, "<f4").tobytes())
    node = _bytes(1, b"x") + _bytes(1, b"W") + _bytes(2, b"y") + _bytes(4, b"MatMul")
    graph = _bytes(1, node) + _bytes(2, b"gemm") + _bytes(5, weight)
    graph += _bytes(11, _matrix(b"x", size)) + _bytes(12, _matrix(b"y", size))
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 17))  # IR version 8, opset 17


def _matrix(name: bytes, size: int) -> bytes:
    side = _bytes(1, _number(1, size))
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, side + side)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
