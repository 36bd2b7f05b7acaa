"""Small engines and what a plan of them would be."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from small_plans import onnx_bytes

from gpcnn_deploy.spec import ModelSpec


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """onnx_file(spec, window) → path of an ONNX engine, a step where window is None; made once."""
    folder = tmp_path_factory.mktemp("onnx")

    @functools.cache
    def make(spec: ModelSpec, window: int | None) -> Path:
        path = folder / f"{abs(hash((spec, window)))}.onnx"
        path.write_bytes(onnx_bytes(spec, window))
        return path

    return make
