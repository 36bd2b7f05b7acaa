"""ONNX Runtime on a real GPU draws what eager PyTorch draws. On the CPU's own memory, the same tests run everywhere."""

from __future__ import annotations

from typing import Any

import pytest
from gpu_here import needs_provider
from small_engines import Make, model_of
from small_plans import SPECS

from gpcnn_deploy.spec import ModelSpec
from gpcnn_export.proof.parity import draw_on, prove
from gpcnn_runtime.engines.onnxruntime.device import OnnxDeviceStep
from gpcnn_runtime.engines.onnxruntime.load import load_onnx_engine
from gpcnn_runtime.engines.onnxruntime.providers import CPU, Placement

REAL = [pytest.param(name, marks=pytest.mark.gpu) for name in ("cuda", "tensorrt", "nv-tensorrt-rtx")]


@pytest.fixture(params=["double", *REAL])
def provider(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A provider that runs here; the double keeps a step's state in the CPU's memory by the same calls."""
    if request.param != "double":
        needs_provider(request.param)
        return request.param
    placement = Placement("cpu", CPU.name, memory="cpu")
    monkeypatch.setattr("gpcnn_runtime.engines.onnxruntime.load.place", lambda provider: placement)
    monkeypatch.setattr(OnnxDeviceStep, "memory", "cpu")
    return "cuda"


@pytest.mark.parametrize("window", [None, 2], ids=["step", "sampler"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_images_are_those_of_eager_pytorch(make: Make, provider: Any, spec: ModelSpec, window: int | None) -> None:
    with load_onnx_engine(make(spec, window), provider) as engine:
        report = prove(model_of(spec), draw_on(engine), (1, 8))
        assert engine.info.provider
    assert report.images == 3 * (1 + 8)
    assert report.near_ties <= 1
