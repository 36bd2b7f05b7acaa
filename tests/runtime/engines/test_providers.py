"""Execution providers of ONNX Runtime: a missing one, a silent fallback, and a step whose state stays on the device."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import numpy as np
import onnxruntime
import pytest
from small_engines import Make
from small_plans import EMBEDDING, LABEL, SPECS

from gpcnn_deploy.errors import EngineError, UsageError
from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.engines.onnxruntime import providers
from gpcnn_runtime.engines.onnxruntime.device import OnnxDeviceStep
from gpcnn_runtime.engines.onnxruntime.load import load_onnx_engine
from gpcnn_runtime.engines.onnxruntime.providers import CPU, Placement, place, running
from gpcnn_runtime.sampler import Sampler


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "nv-tensorrt-rtx"])
def test_a_missing_provider_says_what_to_install(make: Make, provider: Any) -> None:
    with pytest.raises(EngineError, match=rf"provider {provider}: onnxruntime .* here has only cpu: pip "):
        load_onnx_engine(make(LABEL, None), provider)


def test_an_unknown_provider() -> None:
    with pytest.raises(UsageError, match="expected one of cpu, cuda, tensorrt, nv-tensorrt-rtx"):
        place("auto")


@pytest.fixture
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime that says it has CUDA, whose sessions start without it: what a missing cuDNN looks like."""
    real = onnxruntime.InferenceSession

    def session(content: bytes, options: Any, **keywords: Any) -> Any:
        if keywords.get("providers") not in (None, ["CPUExecutionProvider"]):
            (name, settings), cpu = keywords.pop("providers")
            assert (name, settings["use_tf32"], cpu) == ("CUDAExecutionProvider", "0", "CPUExecutionProvider")
            assert keywords.pop("enable_fallback") == 0
        return real(content, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)


@pytest.mark.usefixtures("cuda_build")
def test_a_silent_fallback_is_an_error(make: Make) -> None:
    with pytest.raises(EngineError, match="provider cuda did not start and ONNX Runtime fell back to CPU: check the"):
        load_onnx_engine(make(LABEL, None), "cuda")


@pytest.mark.usefixtures("cuda_build")
def test_auto_takes_what_runs(make: Make) -> None:
    told: list[str] = []
    for window in (None, 2):
        assert load_onnx_engine(make(LABEL, window), "auto", told.append).info.provider == "CPU"
    assert len(told) == 1  # a step would have gone to the GPU, a sampler would not
    assert "provider cuda did not start" in told[0]


def test_a_provider_that_runs_no_node_is_an_error() -> None:
    class Part:
        def __init__(self, name: str, nodes: int) -> None:
            self.ep_name, self.nodes = name, nodes

        def get_nodes(self) -> list[None]:
            return [None] * self.nodes

    def session(*parts: Part) -> Any:
        return types.SimpleNamespace(
            get_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
            get_provider_graph_assignment_info=lambda: parts,
        )

    cuda = Placement("cuda", "CUDAExecutionProvider")
    with pytest.raises(EngineError, match="provider cuda started but runs none of the engine's 7 nodes"):
        running(session(Part("CPUExecutionProvider", 7)), cuda)
    mixed = session(Part("CPUExecutionProvider", 2), Part("CUDAExecutionProvider", 5))
    assert running(mixed, cuda) == "CUDA (2 of 7 nodes on the CPU)"
    assert running(session(Part("CUDAExecutionProvider", 5)), cuda) == "CUDA"


def test_a_plugin_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = types.ModuleType("onnxruntime_ep_nv_tensorrt_rtx")
    plugin.get_ep_name = lambda: "NvTensorRTRTXExecutionProvider"  # type: ignore[attr-defined]
    plugin.get_library_path = lambda: "/nowhere.so"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, plugin.__name__, plugin)
    monkeypatch.setattr(providers.importlib.util, "find_spec", lambda name: name == plugin.__name__)
    with pytest.raises(EngineError, match="nv-tensorrt-rtx: its plugin cannot be loaded"):
        place("nv-tensorrt-rtx")
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", lambda name, path: None)
    with pytest.raises(EngineError, match="its plugin finds no GPU that it can use"):
        place("nv-tensorrt-rtx")


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_step_with_its_state_on_the_device(monkeypatch: pytest.MonkeyPatch, make: Make, spec: ModelSpec) -> None:
    """I/O binding, on the one device that is here: the CPU's own memory."""
    condition: dict[str, Any] = {"labels": 1} if spec is SPECS["label"] else {}
    if spec is EMBEDDING:
        condition = {"embedding": np.ones(spec.conditioning_size)}
    path = make(spec, None)
    with Sampler(load_onnx_engine(path)) as plain:
        monkeypatch.setattr(
            "gpcnn_runtime.engines.onnxruntime.load.place", lambda provider: Placement("cpu", CPU.name, memory="cpu")
        )
        monkeypatch.setattr(OnnxDeviceStep, "memory", "cpu")
        with Sampler(load_onnx_engine(path, "cuda")) as bound:
            assert isinstance(bound.engine, OnnxDeviceStep)
            for more in ({}, {"temperature": 0.5}, {"strategy": "raster"}):
                found, expected = (one.sample(count=3, seed=4, **condition, **more) for one in (bound, plain))
                np.testing.assert_array_equal(found.levels, expected.levels)
                np.testing.assert_allclose(found.log_prob, expected.log_prob, rtol=0, atol=1e-5)


@pytest.mark.parametrize("plugin", [False, True])
@pytest.mark.parametrize(
    ("provider", "before", "during"),
    [
        ("tensorrt", None, "0"),
        ("nv-tensorrt-rtx", None, "0"),
        ("tensorrt", "1", "1"),
        ("cuda", None, None),
        ("cpu", None, None),
    ],
)
def test_tf32_is_off_before_a_session_starts(
    monkeypatch: pytest.MonkeyPatch, provider: str, before: str | None, during: str | None, plugin: bool
) -> None:
    name = "NVIDIA_TF32_OVERRIDE"
    monkeypatch.setenv(name, before or "")  # restored afterwards
    if before is None:
        monkeypatch.delenv(name)
    seen = []

    def session(*_: Any, **__: Any) -> Any:
        seen.append(os.environ.get(name))
        return types.SimpleNamespace(disable_fallback=lambda: None)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    options: Any = types.SimpleNamespace(
        add_session_config_entry=lambda *_: None, add_provider_for_devices=lambda *_: None
    )
    Placement(provider, "any", devices=("a device",) if plugin else ()).session(b"", options)
    assert seen == [during]
