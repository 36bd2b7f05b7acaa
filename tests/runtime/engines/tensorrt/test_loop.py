"""The real loop on the double: the same images as on the CPU, in few launches, and nothing left behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from small_engines import Make
from small_plans import EMBEDDING, LABEL, SPECS, write_plan
from tensorrt_double import install, nothing_left

from gpcnn_deploy.spec import ModelSpec
from gpcnn_runtime.engines.base import Request, StepEngine
from gpcnn_runtime.engines.onnxruntime.load import load_onnx_engine
from gpcnn_runtime.engines.tensorrt.engine import STEPS_PER_LOOK, cache_path
from gpcnn_runtime.engines.tensorrt.load import load_plan_engine
from gpcnn_runtime.sampler import Sampler
from gpcnn_runtime.samples import Samples

FLAVORS = ("tensorrt", "tensorrt-rtx")


def draw(sampler: Sampler, count: int = 3, **more: object) -> Samples:
    spec = sampler.metadata.spec
    if spec.conditioning == "label":
        more["labels"] = 1
    if spec.conditioning == "embedding":
        more["embedding"] = np.linspace(-1, 1, spec.conditioning_size, dtype=np.float32)
    return sampler.sample(seed=5, count=count, **more)  # type: ignore[arg-type]


def assert_equal(found: Samples, expected: Samples) -> None:
    np.testing.assert_array_equal(found.levels, expected.levels)
    np.testing.assert_allclose(found.log_prob, expected.log_prob, rtol=0, atol=1e-5)  # batches differ in rounding


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_images_equal_the_cpu_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spec: ModelSpec, window: int | None, flavor: str
) -> None:
    machine = install(monkeypatch, flavor)
    plan = write_plan(tmp_path, spec, window, flavor)
    with nothing_left(machine):
        with Sampler(load_plan_engine(plan)) as gpu, Sampler(load_onnx_engine(plan.with_suffix(".onnx"))) as cpu:
            assert gpu.engine.info.provider == "Double 3000"
            half = np.indices((3, *spec.image_shape)).sum(0) % 2 == 0
            known = np.full(half.shape, spec.levels - 1)
            for more in (
                {},
                {"temperature": 0.7},
                {"known": known, "mask": half},
                {"known": known, "mask": half | True},
            ):
                assert_equal(draw(gpu, **more), draw(cpu, **more))
        del gpu, cpu


@pytest.mark.parametrize("flavor", FLAVORS)
def test_raster_and_jacobi_draw_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flavor: str) -> None:
    machine = install(monkeypatch, flavor)
    with Sampler(load_plan_engine(write_plan(tmp_path, LABEL, None, flavor))) as sampler:
        jacobi = draw(sampler)
        raster = draw(sampler, strategy="raster")
        again = draw(sampler)
    assert_equal(raster, jacobi)
    assert_equal(again, jacobi)
    assert jacobi.evaluations is not None
    assert jacobi.evaluations % STEPS_PER_LOOK == 0
    del sampler
    assert machine.leaks() == {}


def test_the_batch_does_not_change_an_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, "tensorrt")
    plan = write_plan(tmp_path, EMBEDDING, None)
    with Sampler(load_plan_engine(plan), batch_size=4) as parts, Sampler(load_plan_engine(plan)) as whole:
        assert_equal(draw(parts, count=11), draw(whole, count=11))


def test_only_the_counts_come_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Uploads do not grow with the steps, and each look at the counts is one download of N numbers."""
    machine = install(monkeypatch, "tensorrt")
    with Sampler(load_plan_engine(write_plan(tmp_path, LABEL, None))) as sampler:
        copies = []
        for _ in range(2):
            before = machine.calls["cudaMemcpyAsync"]
            evaluations = draw(sampler).evaluations
            copies.append(machine.calls["cudaMemcpyAsync"] - before)
        assert evaluations is not None
        looks = evaluations // STEPS_PER_LOOK
        assert copies == [5 + 1 + looks + 2] * 2  # inputs, first guess, counts, image and log-probability


def test_a_cuda_graph_is_recorded_once_per_batch_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = install(monkeypatch, "tensorrt")
    with Sampler(load_plan_engine(write_plan(tmp_path, LABEL, None))) as sampler:
        for count in (3, 3, 5, 3):
            draw(sampler, count=count)
        assert machine.calls["cudaGraphInstantiate"] == 2
        assert len(machine.recorded_contexts) == len(set(machine.recorded_contexts)) == 4
        launched = machine.calls["cudaGraphLaunch"]
        enqueued = machine.calls["execute_async_v3"]
        draw(sampler)
        assert machine.calls["execute_async_v3"] == enqueued
        assert machine.calls["cudaGraphLaunch"] > launched
        draw(sampler, count=2)  # a third size takes the place of the one used longest ago
        assert machine.live["executable graphs"] == 2
    del sampler
    assert machine.leaks() == {}


@pytest.mark.parametrize("name", ["recorded enqueue", "cudaStreamBeginCapture", "cudaGraphInstantiate"])
def test_a_graph_that_cannot_be_recorded_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    machine = install(monkeypatch, "tensorrt")
    plan = write_plan(tmp_path, LABEL, None)
    machine.fail[name] = 1
    with Sampler(load_plan_engine(plan)) as gpu, Sampler(load_onnx_engine(plan.with_suffix(".onnx"))) as cpu:
        assert_equal(draw(gpu), draw(cpu))
        assert_equal(draw(gpu), draw(cpu))
        assert machine.calls["cudaGraphLaunch"] == 0
    del gpu
    assert machine.leaks() == {}


def test_rtx_replays_by_itself_and_keeps_its_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = install(monkeypatch, "tensorrt-rtx")
    plan = write_plan(tmp_path, LABEL, None, "tensorrt-rtx")
    for expected in (b"kernels", b"kernels again"):
        with Sampler(load_plan_engine(plan)) as sampler:
            draw(sampler)
        assert cache_path(plan).read_bytes() == expected
    cache_path(plan).write_bytes(b"of another GPU")
    with Sampler(load_plan_engine(plan)) as sampler:
        draw(sampler)
    assert cache_path(plan).read_bytes() == b"kernels"
    assert machine.calls["cudaStreamBeginCapture"] == 0


def test_scalars_may_live_on_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Make) -> None:
    machine = install(monkeypatch, "tensorrt")
    machine.host_tensors = {"evaluations", "temperature"}
    plan = write_plan(tmp_path, LABEL, 5)
    with Sampler(load_plan_engine(plan)) as gpu, Sampler(load_onnx_engine(make(LABEL, 5)), threads=1) as cpu:
        found, expected = draw(gpu, temperature=0.8), draw(cpu, temperature=0.8)
    assert_equal(found, expected)
    assert found.evaluations == expected.evaluations


def test_each_thread_uses_the_gpu_of_the_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """CUDA's current device is one per thread, and a sampler draws in threads of its own."""
    machine = install(monkeypatch, "tensorrt")
    machine.devices, machine.thread.device = 2, 1
    sampler = Sampler(load_plan_engine(write_plan(tmp_path, LABEL, None)))
    assert machine.device == 1
    with ThreadPoolExecutor(1) as others:
        assert len(others.submit(draw, sampler).result()) == 3
        others.submit(setattr, machine.thread, "device", 0).result()
        others.submit(sampler.close).result()
    del sampler
    assert machine.leaks() == {}


def test_a_first_guess_in_any_layout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, "tensorrt")
    engine = load_plan_engine(write_plan(tmp_path, LABEL, None))
    assert isinstance(engine, StepEngine)
    shape = (2, *LABEL.image_shape)
    request = Request(
        np.zeros(shape, np.float32), np.zeros(shape, np.int32), np.zeros(shape, np.bool_), np.ones(2, np.int32)
    )
    levels = np.indices(shape, np.int32).sum(0, np.int32) % 2
    with engine, engine.open(request) as batch:
        batch.place(np.asfortranarray(levels))
        np.testing.assert_array_equal(batch.read()[0], levels)
